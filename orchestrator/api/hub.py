"""Those who wait: parked requests and polls, by topic. A wait costs an entry here, no thread and no connection."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from orchestrator.store.database import Record
from orchestrator.store.scheduling import Lease


def gang_topic(gang_id: str) -> str:
    """Something changed for a gang: a lease, a drain, its end."""
    return f"g:{gang_id}"


def request_topic(request_id: str) -> str:
    """Something changed on a request."""
    return f"r:{request_id}"


def log_topic(request_id: str) -> str:
    """A rank sent what it wrote for a request. Told on its own replica only."""
    return f"l:{request_id}"


class Waiter(asyncio.Event):
    """One who waits. What it was handed, so that it need not look: a gang its lease, a client its request's end."""

    lease: Lease | None = None
    ended: Record | None = None
    slot = 0
    """Of a gang: which of its replicas waits."""


class Hub:
    """Lives on the event loop; `wake` may be called from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, set[Waiter]] = defaultdict(set)
        self.closing = False

    def open(self) -> None:
        """Call once, on the event loop."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Answer everybody who waits, at once and from now on."""
        self.closing = True
        self._wake(list(self._waiting))

    @contextmanager
    def waiter(self, *topics: str, slot: int = 0) -> Iterator[Waiter]:
        """Register before the first look at the database, else a wake-up in between is lost."""
        event = Waiter()
        event.slot = slot
        for topic in topics:
            self._waiting[topic].add(event)
        try:
            yield event
        finally:
            for topic in topics:
                self.dismiss(topic, event)

    def enlist(self, topic: str, slot: int = 0) -> Waiter:
        """As `waiter`, for a wait that outlives a call: `dismiss` it."""
        event = Waiter()
        event.slot = slot
        self._waiting[topic].add(event)
        return event

    def dismiss(self, topic: str, event: Waiter) -> None:
        waiting = self._waiting.get(topic, set())
        waiting.discard(event)
        if not waiting:
            self._waiting.pop(topic, None)

    def wake(self, topics: Iterable[str]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, list(topics))

    def hand(self, topic: str, lease: Lease) -> None:
        """Give a lease just committed to the gang that waits for it, if it waits here."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hand, topic, lease)

    def show(self, topic: str, ended: Record) -> None:
        """Give a request that just ended to those who wait for it here. On the event loop only."""
        for waiter in self._waiting.get(topic, ()):
            waiter.ended = ended
            waiter.set()

    def wake_all(self) -> None:
        """Something may have been missed: let everybody look."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._wake(list(self._waiting)))

    def waiting(self, prefix: str, most: int | None = None) -> list[str]:
        """The IDs behind the topics with this prefix that somebody waits for; none if there are more than `most`."""
        if most is not None and len(self._waiting) > most:
            return []
        return [topic[len(prefix) :] for topic in self._waiting if topic.startswith(prefix)]

    def crowd(self, topic: str, slot: int = 0) -> int:
        """How many wait for it."""
        return sum(waiter.slot == slot for waiter in self._waiting.get(topic, ()))

    def parked(self, prefix: str) -> int:
        """How many topics with this prefix somebody waits for. From any thread."""
        return sum(topic.startswith(prefix) for topic in list(self._waiting))

    def _wake(self, topics: Iterable[str]) -> None:
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()

    def _hand(self, topic: str, lease: Lease) -> None:
        for waiter in self._waiting.get(topic, ()):
            if waiter.slot == lease.slot:
                waiter.lease = lease
                waiter.set()


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """True if it was set within that time; it is cleared for the next wait."""
    try:
        await asyncio.wait_for(event.wait(), max(0.0, seconds))
    except TimeoutError:
        return False
    event.clear()
    return True
