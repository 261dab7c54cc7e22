"""Words for people: what the service sent made harmless, durations, sizes, moments. Pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[smhd])+")
PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
LONGEST = timedelta(days=3650)
JOINERS = "\u200c\u200d"  # part of words and emoji; they hide nothing


def safe(text: str, *, keep: str = "") -> str:
    """`text` with every control, bidi and other invisible character spelt out, but those in `keep`.

    A terminal obeys what it is sent: without this, a log line could retitle the window, hide itself or type a command.
    """
    return "".join(one if one in keep or not _obeyed(one) else _spelt(one) for one in text)


def safe_lines(text: str) -> str:
    """Like `safe` for text of several lines."""
    return safe(text.replace("\r\n", "\n"), keep="\n\t")


def _obeyed(one: str) -> bool:
    return unicodedata.category(one) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and one not in JOINERS


def _spelt(one: str) -> str:
    return one.encode("unicode_escape", "backslashreplace").decode("ascii")


def parse_duration(text: str) -> timedelta:
    """`30s`, `5m`, `2h`, `1d`, `1h30m`. Raises ValueError with a remedy."""
    if not DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration: write 30s, 5m, 2h or 1d")
    amount_s = sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))
    if not 0 <= amount_s <= LONGEST.total_seconds():
        raise ValueError(f"{text!r} is longer than {LONGEST.days} days")
    return timedelta(seconds=amount_s)


def duration(seconds: float) -> str:
    """Two or three figures are enough: `3 ms`, `0.84 s`, `12.3 s`, `4m05s`, `3h20m`, `2d04h`."""
    if 0 < seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return _two(whole // 60, "m", whole % 60, "s")
    if whole < 2 * 86400:
        return _two(whole // 3600, "h", whole % 3600 // 60, "m")
    return _two(whole // 86400, "d", whole % 86400 // 3600, "h")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}" + (f"{small:02d}{small_unit}" if small else "")


def clock(seconds: float) -> str:
    """`0:03`, `12:40`, `1:05:00`."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def age(then: datetime, now: datetime) -> str:
    return duration(max(0.0, round((now - then).total_seconds()))).replace(".0 s", "s").replace(".00 s", "s")


def moment(then: datetime) -> str:
    """UTC, to the second, whatever the time zone of this machine."""
    return then.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def size(amount_bytes: int) -> str:
    if amount_bytes < 10_000:
        return f"{amount_bytes} bytes"
    power = min(4, (amount_bytes.bit_length() - 1) // 10)
    return f"{amount_bytes / 1024**power:.1f} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
