"""Answers that cost a pass over much and need not be of this second: one look for all who ask within some seconds."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

V = TypeVar("V")
_MOST = 1000


class Kept:
    """Of one replica. Lives on the event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Hashable, tuple[float, Any]] = {}

    async def __call__(self, key: Hashable, seconds: float, look: Callable[[], Awaitable[V]]) -> V:
        """What a look said, at most so many seconds ago. Equal keys must mean equal looks."""
        known = self._known.get(key)
        if known is None or known[0] <= self._clock():
            found = await look()
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[key] = (self._clock() + seconds, found)
        answer: V = known[1]
        return answer
