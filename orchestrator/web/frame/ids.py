"""How IDs are written where there is little room."""

from __future__ import annotations

HEAD = 8
"""Letters of the time it was made, to the second."""
TAIL = 4
"""What tells apart those that were made at one moment, as the items of a batch are: chance, counted up."""
CUT = "…"


def short(identifier: str) -> str:
    """`req_01k7…` without its kind, cut in the middle: `01k7abcd…wxyz`. The search knows it so."""
    name = identifier.partition("_")[2]
    return name if len(name) <= HEAD + len(CUT) + TAIL else f"{name[:HEAD]}{CUT}{name[-TAIL:]}"
