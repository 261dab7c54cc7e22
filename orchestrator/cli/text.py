"""Words for people: what the service sent made harmless, durations, sizes, moments. Pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta

from orchestrator.domain.durations import duration as duration

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


def parse_moment(text: str, now: datetime) -> datetime:
    """`5m` (so long before `now`), or RFC 3339 with a zone. Raises ValueError with a remedy."""
    if DURATION.fullmatch(text):
        return now - parse_duration(text)
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        said = None
    if said is None or said.tzinfo is None:
        raise ValueError(f"{text!r} is no moment: write 5m, 2h, 1d (ago), or 2026-01-31T12:00:00Z")
    return said.astimezone(UTC)


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
