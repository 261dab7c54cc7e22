"""Placement: which request goes to which gang now, and which path a new request takes. Pure.

`choose` shares free slots fairly between tenants (start-time fair queueing: each tenant has a virtual time that rises
with what it got, divided by its weight). `place` compares the predicted wait with the predicted cold start, with the
reason.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Mode(StrEnum):
    """What the caller asked for."""

    AUTO = "auto"
    WARM = "warm"
    BATCH = "batch"


class Placement(StrEnum):
    """The path taken: a warm gang of the pool, or a fresh gang of its own."""

    WARM = "warm"
    BATCH = "batch"


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A free place on a ready incarnation: of gang's replica `number`, which runs one request at a time."""

    gang: str
    incarnation: int
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A queued request. Candidates of one tenant come in the order in which they are due."""

    request: str
    tenant: str
    vtime: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One request for one slot."""

    request: str
    tenant: str
    slot: Slot
    vtime: float | None = None
    """The tenant's virtual time after it; None where its gang serves nobody else, so that nothing is shared out."""


def choose(slots: Sequence[Slot], candidates: Iterable[Candidate], cost: float = 1.0) -> list[Assignment]:
    """Fill the slots: always the tenant that got least, its requests in due order.

    `cost` is what one request charges its tenant, in expected gang seconds.
    """
    queues: dict[str, deque[Candidate]] = defaultdict(deque)
    for candidate in candidates:
        queues[candidate.tenant].append(candidate)
    heap = [(queue[0].vtime, tenant) for tenant, queue in queues.items()]
    heapq.heapify(heap)
    chosen: list[Assignment] = []
    for slot in slots:
        if not heap:
            break
        vtime, tenant = heapq.heappop(heap)
        taken = queues[tenant].popleft()
        after = vtime + cost / taken.weight
        chosen.append(Assignment(request=taken.request, tenant=tenant, slot=slot, vtime=after))
        if queues[tenant]:
            heapq.heappush(heap, (after, tenant))
    return chosen


@dataclass(frozen=True, kw_only=True)
class PoolLoad:
    """What placement looks at. Seconds are medians of recent gangs and requests; None where there were none.

    A gang of `replicas` parts runs as many requests at once: `idle`, `busy` and `starting` count these parts.
    """

    idle: int
    busy: int
    starting: int
    queued: int
    max_gangs: int
    run_s: float | None
    cold_s: float | None
    held: str | None = None
    replicas: int = 1

    @property
    def gangs(self) -> int:
        return (self.idle + self.busy + self.starting) // self.replicas


A_GANG_IS_IDLE = PoolLoad(idle=1, busy=0, starting=0, queued=0, max_gangs=1, run_s=None, cold_s=None)
"""What placement sees when a gang takes the request at once."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """The path of a new request and why; the sentence is stored with the request and shown."""

    placement: Placement
    reason: str


def place(mode: Mode, load: PoolLoad) -> Placed | None:
    """The path for a new request; None when `warm` was asked for and the pool may hold no gang.

    Gangs that live on from a larger maximum do not count: they are about to go.
    """
    match mode:
        case Mode.BATCH:
            return Placed(placement=Placement.BATCH, reason="asked for: a fresh gang of its own")
        case Mode.WARM if load.max_gangs == 0:
            return None
        case Mode.WARM:
            return Placed(placement=Placement.WARM, reason="asked for: a warm gang of the pool")
        case Mode.AUTO:
            return _place_auto(load)


def needs_history(load: PoolLoad) -> bool:
    """Whether `auto` has to compare seconds: all gangs that may exist do, and none is free."""
    return 0 < load.max_gangs <= load.gangs and load.idle <= load.queued


def _place_auto(load: PoolLoad) -> Placed:
    if load.max_gangs == 0:
        return Placed(placement=Placement.BATCH, reason="the pool keeps no warm gangs (max 0)")
    if load.idle > load.queued:
        return Placed(placement=Placement.WARM, reason="a warm gang is idle")
    if load.gangs < load.max_gangs:
        return Placed(
            placement=Placement.WARM,
            reason=f"the pool may grow ({load.gangs} of {load.max_gangs} gangs), and a new gang stays warm",
        )
    if load.run_s is None or load.cold_s is None:
        return Placed(
            placement=Placement.WARM, reason="no history yet to compare with a cold start; the pool is first choice"
        )
    wait = predicted_wait(load)
    figures = f"predicted wait {wait:.1f} s, predicted cold start {load.cold_s:.1f} s"
    if wait > load.cold_s:
        return Placed(placement=Placement.BATCH, reason=f"{figures}: a fresh gang is sooner")
    return Placed(placement=Placement.WARM, reason=f"{figures}: waiting for a warm gang is sooner")


def predicted_wait(load: PoolLoad) -> float:
    """Seconds until a new request would start: whole turns of those ahead, and half a run for the turn under way."""
    if load.idle > load.queued:
        return 0.0
    servers = max(1, load.idle + load.busy + load.starting)
    run = load.run_s or 0.0
    turns_ahead = math.floor(load.queued / servers)
    under_way = run / 2 if load.busy or load.idle else (load.cold_s or 0.0)  # all starting: the start is under way
    return turns_ahead * run + under_way


def predicted_start(placement: Placement, load: PoolLoad) -> float | None:
    """Seconds until a new request on this path would start; None without experience to say it from."""
    if placement is Placement.BATCH:
        return load.cold_s
    if load.idle > load.queued:
        return 0.0
    if load.gangs < load.max_gangs:
        return load.cold_s
    known = load.run_s if load.idle or load.busy else load.cold_s
    return None if known is None else predicted_wait(load)


def backoff(losses: int) -> timedelta:
    """Pause before try number losses + 1: none after the first loss, then 1 s doubling up to a minute."""
    if losses <= 1:
        return timedelta()
    return timedelta(seconds=min(60.0, 2.0 ** (losses - 2)))
