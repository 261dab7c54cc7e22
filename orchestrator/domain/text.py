"""Words for people: what somebody sent made harmless, durations, sizes, moments. Pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from functools import cache

from orchestrator.domain.durations import duration as duration

_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
JOINERS = "\u200c\u200d"  # part of words and emoji; they hide nothing


def safe(text: str, *, keep: str = "") -> str:
    """`text` with every control, bidi and other invisible character spelt out, but those in `keep`.

    A terminal obeys what it is sent: without this, a log line could retitle the window, hide itself or type a command;
    and in a browser as anywhere, bidi characters make text read as what it is not.
    """
    return text.translate(_spellings(keep))


@cache
def _spellings(keep: str) -> _Spellings:
    return _Spellings(keep)


class _Spellings(dict[int, int | str]):
    """What is written for each character, as `str.translate` asks for it: a page of a megabyte takes milliseconds."""

    _MOST = 20_000

    def __init__(self, keep: str) -> None:
        self._keep = keep

    def __missing__(self, code: int) -> int | str:
        one = chr(code)
        written = _spelt(one) if one not in self._keep and _obeyed(one) else code
        if len(self) < self._MOST:
            self[code] = written
        return written


def safe_lines(text: str) -> str:
    """Like `safe` for text of several lines."""
    return safe(text.replace("\r\n", "\n"), keep="\n\t")


def uncoloured(text: str) -> str:
    """What a terminal would leave on the screen of `text`: without colours, of a line drawn anew its last state."""
    lines = _COLOURS.sub("", text).split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _obeyed(one: str) -> bool:
    return unicodedata.category(one) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and one not in JOINERS


def _spelt(one: str) -> str:
    return one.encode("unicode_escape", "backslashreplace").decode("ascii")


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
