"""Bodies that have not come whole yet: what they hold in memory together is bounded, and shared out.

A connection costs its caller nothing, and each may have a megabyte of a body under way for minutes. Knows no requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Hashable

from orchestrator.errors import Invalid, Unavailable

MOST_HELD = 256 << 20
"""Bytes of all bodies of a replica that are being collected."""
SHARE = 2
"""Nobody holds more than this part of it."""
SMALL = 1 << 15
"""A body up to this size is not counted: a connection holds about as much without one."""


class Larder:
    """Of one process. Lives on the event loop."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self.most = most
        self._held: Counter[Hashable] = Counter()

    @property
    def held(self) -> int:
        """Bytes now."""
        return self._held.total()

    async def whole(self, parts: AsyncIterable[bytes], most: int, whose: Hashable) -> bytes:
        """The body, of at most `most` bytes. Raises Invalid `too_large`; Unavailable where there is no room for it."""
        found, mine = bytearray(), 0
        try:
            async for part in parts:
                found += part
                if len(found) > most:
                    raise Invalid(f"the body is larger than {most} bytes", code="too_large")
                if len(found) > SMALL:
                    self._check_room(whose, more := len(found) - mine)
                    self._held[whose] += more
                    mine = len(found)
            return bytes(found)
        finally:
            self._held[whose] -= mine
            if not self._held[whose]:
                del self._held[whose]

    def _check_room(self, whose: Hashable, more: int) -> None:
        if self.held + more > self.most or self._held[whose] + more > self.most // SHARE:
            raise Unavailable("this replica holds all the unfinished bodies that it may: send it again in a moment")


LARDER = Larder()
"""That of this process."""
NOBODY = "nobody"
"""Whose a body is that comes before anybody was asked who sends it."""
