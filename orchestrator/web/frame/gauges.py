"""Drawings of figures: where each piece of a gauge or a stack lies. Pure; templates make SVG of it.

There are no styles in our pages (the content policy allows none), so positions are attributes of SVG elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 240.0
"""Of a drawing, in its own units; the page stretches it."""
MOST_CELLS = 24
_CELL, _WIDEST = 40, 480
STATES = ("busy", "idle", "loading", "launching", "planned", "draining")
"""Of live gangs, as a gauge is filled."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """From `x` on, so wide; `kind` names its colour."""

    x: float
    width: float
    kind: str


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """How many gangs a pool has, of how many."""

    pieces: Sequence[Piece]
    floor: float | None
    """Where the minimum lies."""
    size: int
    """How wide it is drawn, in pixels: few places make a short one."""
    label: str
    """All of it in words."""


def gauge(counts: Mapping[str, int], least: int, most: int) -> Gauge:
    """One cell for each place, as long as cells can be told apart; else one piece for each state."""
    present = [(state, counts.get(state, 0)) for state in STATES if counts.get(state, 0)]
    live = sum(number for _, number in present)
    places = max(live, most, 1)
    told = [*present, ("free", places - live)] if most > live else present
    pieces = _cells(told, places) if places <= MOST_CELLS else _stretches(told, places)
    return Gauge(
        pieces=pieces,
        floor=_rounded(WIDTH * least / places) if least else None,
        size=min(_WIDEST, _CELL * places),
        label=_said(counts, least, most),
    )


def _cells(told: Sequence[tuple[str, int]], places: int) -> list[Piece]:
    kinds = [kind for kind, number in told for _ in range(number)]
    each = WIDTH / places
    return [Piece(x=_rounded(n * each), width=_rounded(each - 2), kind=kind) for n, kind in enumerate(kinds)]


def _stretches(told: Sequence[tuple[str, int]], places: int) -> list[Piece]:
    return stack([(kind, float(number)) for kind, number in told], float(places))


def stack(told: Sequence[tuple[str, float]], whole: float) -> list[Piece]:
    """Pieces side by side; `whole` is what fills the width."""
    pieces, x = [], 0.0
    for kind, amount in told:
        width = WIDTH * amount / whole if whole else 0.0
        if width > 0:
            pieces.append(Piece(x=_rounded(x), width=_rounded(max(width, 0.5)), kind=kind))
        x += width
    return pieces


def _said(counts: Mapping[str, int], least: int, most: int) -> str:
    parts = [f"{counts[state]} {state}" for state in STATES if counts.get(state)]
    kept = f", {least} kept at least" if least else ""
    return f"{', '.join(parts) or 'no gang'}; at most {most}{kept}"


def placed(x: float, width: float, kind: str) -> Piece:
    """A piece that can be seen and stays inside."""
    width = min(WIDTH, max(1.0, width))
    return Piece(x=_rounded(min(x, WIDTH - width)), width=_rounded(width), kind=kind)


def _rounded(number: float) -> float:
    return round(number, 1)
