"""Values of labels, bounded: what anybody may invent (names of templates, of tenants, methods) ends in `other`."""

from __future__ import annotations

from collections.abc import Callable

MOST = 200
"""Different values of one label; what comes later is `other`."""
OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Bounded:
    """The first values that come keep their names. `met` hears of each of them once."""

    def __init__(self, most: int = MOST, met: Callable[[str], None] = lambda _: None) -> None:
        self._most = most
        self._met = met
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._known:
            return value
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(value)
        self._met(value)
        return value


def method(value: str) -> str:
    return value if value in _METHODS else OTHER
