"""Which lines of a log are new, when all that can be asked for is its end. Pure."""

from __future__ import annotations

import re

RANK = re.compile(r"\[r\d+\] ")
SKIPPED = "[... lines came faster than they could be followed ...]"


class NewLines:
    """Compares each look with the one before, rank by rank: lines of different ranks may change places."""

    def __init__(self) -> None:
        self._seen: dict[str, list[str]] = {}

    def of(self, text: str) -> list[str]:
        """The lines that were not there at the last look, in the order of `text`."""
        ranks: dict[str, list[str]] = {}
        for line in text.splitlines():
            ranks.setdefault(_rank(line), []).append(line)
        known = {rank: _overlap(self._seen.get(rank, []), lines) for rank, lines in ranks.items()}
        gap = [SKIPPED] if any(self._seen.get(rank) and not known[rank] for rank in ranks) else []
        self._seen.update(ranks)
        return gap + _beyond(text.splitlines(), known)


def _beyond(lines: list[str], known: dict[str, int]) -> list[str]:
    left = dict(known)
    new = []
    for line in lines:
        rank = _rank(line)
        if left[rank]:
            left[rank] -= 1
        else:
            new.append(line)
    return new


def _rank(line: str) -> str:
    match = RANK.match(line)
    return match[0] if match else ""


def _overlap(old: list[str], new: list[str]) -> int:
    """How many of the first lines of `new` are the last of `old`."""
    for count in range(min(len(old), len(new)), 0, -1):
        if old[-count:] == new[:count]:
            return count
    return 0
