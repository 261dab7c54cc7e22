"""How the items of a batch stand, as a bar of parts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 1000
"""Units of a whole bar."""
ORDER = ("succeeded", "failed", "expired", "canceled", "refused", "running", "queued")
_LEAST = 6
"""Units of a part that is there at all: one item of 100,000 is seen too."""


@dataclass(frozen=True, kw_only=True)
class Part:
    state: str
    number: int
    x: float
    width: float


def parts(counts: Mapping[str, int]) -> Sequence[Part]:
    """Those that there are, side by side, together `WIDTH` wide; `counts` as the API says them."""
    there = [(state, counts.get(state, 0)) for state in ORDER if counts.get(state, 0) > 0]
    whole = sum(number for _, number in there)
    wide = [max(_LEAST, WIDTH * number / whole) for _, number in there]
    scale = WIDTH / sum(wide) if wide else 1.0
    found, x = [], 0.0
    for (state, number), width in zip(there, wide, strict=True):
        found.append(Part(state=state, number=number, x=round(x, 2), width=round(width * scale, 2)))
        x += width * scale
    return found


def done(counts: Mapping[str, int]) -> int:
    """Items that are over."""
    return sum(counts[state] for state in ("succeeded", "failed", "expired", "canceled"))


def undone(counts: Mapping[str, int]) -> int:
    """Items that are over without success: what a resume runs again."""
    return done(counts) - counts["succeeded"]


def spoken(counts: Mapping[str, int]) -> str:
    """For those who do not see the bar."""
    return ", ".join(f"{one.number} {one.state}" for one in parts(counts)) or "no items yet"
