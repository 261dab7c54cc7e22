"""All connections of a replica, counted: whoever does nothing makes room for whoever comes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Guest(Protocol):
    """A connection."""

    def leave(self) -> None:
        """Close it now."""


class House:
    """Lives on the event loop."""

    def __init__(self, *, connections: int, idle: int) -> None:
        self._most, self._most_idle = connections, idle
        self._count = 0
        self._idle: OrderedDict[Guest, None] = OrderedDict()

    @property
    def count(self) -> int:
        """Connections now."""
        return self._count

    @property
    def idle(self) -> int:
        """Those without a call under way."""
        return len(self._idle)

    def enter(self, guest: Guest) -> bool:
        """Whether there is room, if need be that of the one that has done nothing for longest."""
        self._count += 1
        if self._count > self._most and not self._send_away_one():
            return False
        self.rest(guest)
        return True

    def work(self, guest: Guest) -> None:
        """A call of it is under way."""
        self._idle.pop(guest, None)

    def rest(self, guest: Guest) -> None:
        """It has no call under way."""
        self._idle[guest] = None
        self._idle.move_to_end(guest)
        if len(self._idle) > self._most_idle:
            self._send_away_one()

    def gone(self, guest: Guest) -> None:
        """It is closed."""
        self._count -= 1
        self._idle.pop(guest, None)

    def _send_away_one(self) -> bool:
        if not self._idle:
            return False
        guest, _ = self._idle.popitem(last=False)
        guest.leave()
        return True
