"""Who may still come in: bounds on what a tenant has open, on what waits in a pool, on its rate and its parked calls.

The path of a submit pays no statement for it. A replica counts what a tenant has once a second, beside the calls, and
adds what it accepts meanwhile; so over several replicas a bound may be passed by what the others accept in that
second. A rate is shared out evenly over the replicas that listen.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from orchestrator.errors import MusterError, QueueFull, TooMany
from orchestrator.settings import Settings
from orchestrator.store.tenants import Standing

FRESH_S = 1.0
"""A count older than this is made anew, beside the calls."""
FRESH_AT_BOUND_S = 0.2
"""The same where it refuses somebody: room that came free is seen soon."""
BURST_S = 5.0
"""A tenant that asked for nothing may ask at once for what its rate gives in this time."""
REFUSED_AFTER_S = 0.3
"""A refusal costs a millisecond of the replica: who asks again at once, on many connections, would take all of it."""
MOST_BUCKETS = 10_000
FULL_RETRY_S = 5
MOST_UPLOADS = 64
"""Files and batches that one tenant sends to a replica at a time: each holds blocks in memory, or lines on its disk."""


@dataclass(kw_only=True)
class _Count:
    """What a tenant has, as counted then, and by pool what was recorded here since and what is being recorded."""

    standing: Standing
    at: float
    since: Counter[str] = field(default_factory=Counter)
    under_way: Counter[str] = field(default_factory=Counter)


class Buckets:
    """Token buckets by key; those not used for longest are forgotten first, which fills them."""

    def __init__(self) -> None:
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def take(self, key: Hashable, rate: float, burst: float) -> float:
        """Take one. Returns 0, or if there is none the seconds until there is."""
        now = time.monotonic()
        full_at = max(now, self._full_at.get(key, 0.0)) + 1 / rate
        late = full_at - now - max(1.0, burst) / rate
        if late > 1e-9:
            return late
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > MOST_BUCKETS:
            self._full_at.popitem(last=False)
        return 0.0


def full(settings: Settings, standing: Standing, pool: str, *, more: int = 0, more_queued: int = 0) -> str | None:
    """Why another request in the pool is too many; `more` of all came since they were counted, `more_queued` of it."""
    most_open = settings.max_open if standing.max_open is None else standing.max_open
    most_queued = settings.max_queued if standing.max_queued is None else standing.max_queued
    if standing.open + more >= most_open:
        return f"this tenant has {most_open} open requests, which is all it may have"
    if standing.queued.get(pool, 0) + more_queued >= most_queued:
        return f"{most_queued} requests wait for this template, which is all that may"
    return None


class Admission:
    """Lives on the event loop."""

    def __init__(self, settings: Settings, count: Callable[[str], Awaitable[Standing]]) -> None:
        self._settings = settings
        self._count = count
        self._counts: dict[str, _Count] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._buckets = Buckets()
        self._parked: Counter[str] = Counter()
        self._sending: Counter[str] = Counter()

    async def check_rate(self, tenant: str) -> None:
        """Before anything else is looked at. Raises TooMany `rate_limited`."""
        standing = (await self._known(tenant)).standing
        rate = self._settings.submit_rate if standing.submit_rate is None else standing.submit_rate
        if rate <= 0:
            return
        here = rate / standing.replicas
        if late := self._buckets.take(tenant, here, here * BURST_S):
            await asyncio.sleep(REFUSED_AFTER_S)
            raise TooMany(f"more than {rate:g} submits per second", code="rate_limited", retry_after_s=late)

    @asynccontextmanager
    async def admitted(self, tenant: str, pool: str) -> AsyncIterator[None]:
        """While a request is recorded. Raises QueueFull."""
        known = await self._room(tenant, pool)
        known.under_way[pool] += 1
        try:
            yield
            self._counts[tenant].since[pool] += 1
        finally:
            known.under_way[pool] -= 1  # the same counter in a newer count

    async def _room(self, tenant: str, pool: str) -> _Count:
        known = await self._known(tenant)
        if self._is_full(known, pool) and time.monotonic() - known.at > FRESH_AT_BOUND_S:
            await self._refresh(tenant)
            known = self._counts[tenant]
        if full := self._is_full(known, pool):
            await asyncio.sleep(REFUSED_AFTER_S)
            raise QueueFull(full, retry_after_s=FULL_RETRY_S)
        return known

    def _is_full(self, known: _Count, pool: str) -> str | None:
        return full(
            self._settings,
            known.standing,
            pool,
            more=known.since.total() + known.under_way.total(),
            more_queued=known.since[pool] + known.under_way[pool],
        )

    @contextmanager
    def parked(self, tenant: str) -> Iterator[None]:
        """A call of the tenant that is held open. Raises TooMany `too_many_waits`."""
        most = self._most_parked(tenant)
        if self._parked[tenant] >= most:
            raise TooMany(f"{most} calls of this tenant are waiting on this replica", code="too_many_waits")
        with self.held(tenant):
            yield

    @contextmanager
    def sending(self, tenant: str) -> Iterator[None]:
        """While the tenant sends a file, or the lines of a batch. Raises TooMany `too_many_uploads`."""
        if self._sending[tenant] >= MOST_UPLOADS:
            raise TooMany(f"{MOST_UPLOADS} uploads of this tenant are under way here", code="too_many_uploads")
        self._sending[tenant] += 1
        try:
            yield
        finally:
            self._sending[tenant] -= 1
            if not self._sending[tenant]:
                del self._sending[tenant]

    @contextmanager
    def held(self, tenant: str) -> Iterator[None]:
        """The same of a call that was told before that it may wait."""
        self._parked[tenant] += 1
        try:
            yield
        finally:
            self._parked[tenant] -= 1
            if not self._parked[tenant]:
                del self._parked[tenant]

    def may_park(self, tenant: str) -> bool:
        """Whether one more call may wait."""
        return self._parked[tenant] < self._most_parked(tenant)

    def _most_parked(self, tenant: str) -> int:
        known = self._counts.get(tenant)
        own = known.standing.max_waits if known else None
        return self._settings.max_waits if own is None else own

    async def _known(self, tenant: str) -> _Count:
        known = self._counts.get(tenant)
        if known is None:
            await self._refresh(tenant)
        elif time.monotonic() - known.at > FRESH_S:
            self._start(tenant)
        return self._counts[tenant]

    async def _refresh(self, tenant: str) -> None:
        await asyncio.shield(self._start(tenant))
        if tenant not in self._counts:
            self._counts[tenant] = _Count(standing=Standing(), at=-math.inf)  # the database will tell

    def _start(self, tenant: str) -> asyncio.Task[None]:
        """Count anew, once at a time for each tenant."""
        if (task := self._under_way.get(tenant)) is None:
            task = self._under_way[tenant] = asyncio.get_running_loop().create_task(self._recount(tenant))
            task.add_done_callback(lambda _: self._under_way.pop(tenant, None))
        return task

    async def _recount(self, tenant: str) -> None:
        """What is recorded while it counts may be counted twice until the next time, never missed."""
        before = self._counts.get(tenant, _Count(standing=Standing(), at=0.0))
        counted = Counter(before.since)
        with suppress(MusterError):
            standing = await self._count(tenant)
            self._counts[tenant] = _Count(
                standing=standing, at=time.monotonic(), since=before.since - counted, under_way=before.under_way
            )
