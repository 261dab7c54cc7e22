"""Seconds as people read and write them. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[smhd])+")
PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
LONGEST = timedelta(days=3650)


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


def whole(seconds: float) -> str:
    """Without fractions, for what is redrawn every second: `8 s`, `4m05s`."""
    return f"{seconds:.0f} s" if seconds < 59.5 else duration(seconds)


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}" + (f"{small:02d}{small_unit}" if small else "")


def parse_duration(text: str) -> timedelta:
    """`30s`, `5m`, `2h`, `1d`, `1h30m`. Raises ValueError with a remedy."""
    if not DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration: write 30s, 5m, 2h or 1d")
    amount_s = sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))
    if not 0 <= amount_s <= LONGEST.total_seconds():
        raise ValueError(f"{text!r} is longer than {LONGEST.days} days")
    return timedelta(seconds=amount_s)
