"""Gangs between a report and their next question: what is granted meanwhile waits for them here.

A gang whose report was answered without work asks again within a millisecond. It was looked at just now, so the
question need not go to the database: the gang waits on, as if it had asked before.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

from orchestrator.api.hub import Hub, Waiter, gang_topic

AWAY_S = 1.0
"""A gang that stays away longer is looked at again: its other answers may come from another replica."""
MOST_KNOWN = 10_000


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a gang waits."""

    gang: str
    slot: int
    incarnation: int
    session: bytes
    waiter: Waiter
    since: float


class Parking:
    """Lives on the event loop."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._known: OrderedDict[bytes, tuple[str, int]] = OrderedDict()
        """Gang and incarnation of each session that asked for work here."""
        self._places: dict[tuple[str, int], Place] = {}

    def know(self, session: bytes, gang: str, incarnation: int) -> None:
        """A session was seen to be good."""
        self._known[session] = (gang, incarnation)
        self._known.move_to_end(session)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def reserve(self, session: bytes, slot: int = 0) -> Place | None:
        """Before its report is looked at: from now on nothing that happens to the gang is missed."""
        if session not in self._known:
            return None
        gang, incarnation = self._known[session]
        waiter = self._hub.enlist(gang_topic(gang), slot)
        since = time.monotonic()
        return Place(gang=gang, slot=slot, incarnation=incarnation, session=session, waiter=waiter, since=since)

    def keep(self, place: Place) -> None:
        """The gang was told that there is nothing to do and will ask."""
        if before := self._places.pop((place.gang, place.slot), None):
            self.leave(before)
        self._places[place.gang, place.slot] = place

    def leave(self, place: Place) -> None:
        """The gang will not come back for it."""
        self._hub.dismiss(gang_topic(place.gang), place.waiter)

    def take(self, gang: str, session: bytes, slot: int = 0) -> Place | None:
        """The place that was kept for this session of the gang, if it comes at once. The caller must `leave` it."""
        place = self._places.pop((gang, slot), None)
        if place is None:
            return None
        if place.session == session and time.monotonic() - place.since < AWAY_S:
            return place
        self.leave(place)
        return None
