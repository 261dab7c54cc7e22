"""What every route works with: the database, the waiting, the settings; and how a transaction is run from a route."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import anyio
import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Request

from orchestrator import logs
from orchestrator.api.access import Access
from orchestrator.api.admission import Admission, Buckets
from orchestrator.api.grouping import Grouping
from orchestrator.api.hub import Hub, gang_topic, request_topic
from orchestrator.api.input_schema import Form
from orchestrator.api.parking import Parking
from orchestrator.api.sharing import Sharing
from orchestrator.domain.access import Reviews
from orchestrator.domain.moved import Moved
from orchestrator.domain.placement import PoolLoad
from orchestrator.domain.template import Template
from orchestrator.domain.tracing import Tracing
from orchestrator.errors import Unavailable
from orchestrator.metrics import Metrics
from orchestrator.settings import Settings
from orchestrator.store import secrets, standing, templates, tenants
from orchestrator.store.accepting import Acceptor
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.express import Report
from orchestrator.store.finishing import Ending, Finisher
from orchestrator.store.orders import Accepted, Order
from orchestrator.store.scheduling import Lease
from orchestrator.store.wakeups import Notifier
from orchestrator.traces import Traces

T = TypeVar("T")
POOL_CACHE = timedelta(seconds=1)
MOST_WATCHED = 64
MOST_ON_THREADS = 4096
"""Calls that run or wait for a thread; a restart brings a poll of each gang at once."""
JUST_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Product:
    """The current version of a template with its pool."""

    pool: Record
    template: Template

    @cached_property
    def form(self) -> Form:
        """What inputs are held to."""
        return Form(self.template.input)


@dataclass(kw_only=True)
class Office:
    """One replica's shared things."""

    database: Database
    settings: Settings
    notifier: Notifier
    ring: Callable[[str], None]
    """Rings the bell of a loop: `schedule` or `plan`."""
    rehearse: Callable[[str, Template], None] = lambda _, __: None
    """Asks where gangs of a tenant run whether those of a template would be taken. Raises Invalid; may take seconds."""
    reviews: Reviews | None = None
    """Who says what users of Kubeflow's gateway may do."""
    hub: Hub = field(default_factory=Hub)
    accept: Grouping[Order, Accepted] = field(init=False)
    """Accepts one request; those that come together share a commit."""
    finish: Grouping[Report, Ending] = field(init=False)
    """Takes the report of a success; those that come together share a commit."""
    access: Access = field(init=False)
    parking: Parking = field(init=False)
    admission: Admission = field(init=False)
    beats: Buckets = field(default_factory=Buckets)
    """How often gangs may beat."""
    metrics: Metrics = field(init=False)
    tracing: Tracing = field(init=False)
    traces: Traces | None = None
    """Makes spans of what ends here, if the operator wants any."""
    _limiter: CapacityLimiter | None = None
    _on_threads: int = 0
    _products: dict[tuple[str, str], tuple[float, Product]] = field(default_factory=dict)
    _templates: dict[str, Template] = field(default_factory=dict)
    _queued_at: dict[str, float] = field(default_factory=dict)
    _secrets: dict[str, bytes] = field(default_factory=dict)
    sharing: Sharing = field(default_factory=Sharing)
    followed: dict[str, int] = field(default_factory=dict)
    """The version at which each request that somebody follows here was last seen; see `watching`."""
    _watched: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        acceptor = Acceptor(self.database, self.settings.lease)
        self._finisher = Finisher(self.database, self.settings.lease)
        self.accept = Grouping(lambda orders: self.thread(lambda: acceptor.accept(orders)))
        self.finish = Grouping(self._finish)
        self.access = Access(self.reviews, self.settings)
        self.parking = Parking(self.hub)
        self.admission = Admission(self.settings, self._standing)
        self.metrics = self._metrics()
        self.tracing = self.traces.how if self.traces is not None else Tracing()
        self.database.tell = self._told
        self.database.starved = self.metrics.starved

    def _metrics(self) -> Metrics:
        metrics = Metrics(lambda: self.database.look(standing.read), by_tenant=self.settings.metrics_by_tenant)
        metrics.watch(
            connections=lambda: self.database.in_use,
            most=self.settings.database_connections,
            parked={"gang": lambda: self.hub.parked("g:"), "request": lambda: self.hub.parked("r:")},
            disk=self._disk,
        )
        return metrics

    @property
    def _disk(self) -> Path | None:
        """Where outputs lie; None if that is a bucket."""
        scheme, _, path = self.settings.outputs.partition("://")
        return Path(unquote(path)) if scheme == "file" else None

    def _told(self, moved: Sequence[Moved]) -> None:
        """After each commit of this replica, on the thread that committed."""
        logs.tell([one.line() for one in moved])
        self.metrics.count(moved)
        if self.traces is not None:
            self.traces.told(moved)

    async def _standing(self, tenant: str) -> tenants.Standing:
        most = max(self.settings.max_open, self.settings.max_queued)
        return await self.look(lambda tx: tenants.standing(tx, tenant, most))

    async def transact(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction, on a thread."""
        return await self.thread(lambda: self.database.transact(work))

    async def look(self, work: Callable[[Tx], T]) -> T:
        """Run `work`, which only reads, on a thread."""
        return await self.thread(lambda: self.database.look(work))

    async def thread(self, work: Callable[[], T]) -> T:
        """Run `work` on a thread; as many at once as there are connections for it."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(max(2, self.settings.database_connections - 4))
        if self._on_threads >= MOST_ON_THREADS:
            raise Unavailable("more calls wait for the database than it serves in time; nothing was changed")
        self._on_threads += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._on_threads -= 1

    async def _finish(self, reports: Sequence[Report]) -> tuple[Ending, ...]:
        """Where many wait for requests here, asking for each of them costs more than letting those concerned look."""
        watched = self.hub.waiting("r:", most=MOST_WATCHED)
        endings = await self.thread(lambda: self._finisher.finish(reports, watched))
        for lease in endings.others:
            self.wake(gangs=[lease.gang], lease=lease)
        if endings.contended:
            self.ring("schedule")
        return endings.each

    async def product(self, tenant: str, name: str) -> Product:
        """The current version of a template; at most a second old."""
        known = self._products.get((tenant, name))
        if known is not None and known[0] > time.monotonic():
            return known[1]
        pool = await self.transact(lambda tx: templates.current_pool(tx, tenant, name))
        return self.learn(tenant, pool)

    async def secret(self, name: str) -> bytes:
        """A key that all replicas share."""
        if name not in self._secrets:
            self._secrets[name] = await self.transact(lambda tx: secrets.named(tx, name))
        return self._secrets[name]

    @contextmanager
    def watching(self, request_id: str) -> Iterator[None]:
        """Meanwhile the safety net looks whether the request moved without a word to us."""
        self._watched[request_id] += 1
        try:
            yield
        finally:
            self._watched[request_id] -= 1
            if not self._watched[request_id]:
                del self._watched[request_id]
                self.followed.pop(request_id, None)

    def learn(self, tenant: str, pool: Record) -> Product:
        """Remember a pool just read or written."""
        product = Product(pool=pool, template=self.template(pool))
        self._products[tenant, pool.template] = (time.monotonic() + POOL_CACHE.total_seconds(), product)
        return product

    def forget(self, tenant: str, name: str) -> None:
        self._products.pop((tenant, name), None)

    def template(self, pool: Record | Lease) -> Template:
        """The template of a row that has the pool's `spec`; a version never changes, so it is parsed once."""
        pool_id = str(getattr(pool, "pool_id", None) or getattr(pool, "id", ""))
        if pool_id not in self._templates:
            self._templates[pool_id] = Template.model_validate(pool.spec)
        return self._templates[pool_id]

    def queued(self, pool_id: str, load: PoolLoad | None) -> None:
        """After a commit: a request waits in the pool, which was like this before.

        Where all gangs are busy and no more may come, it waits for one to be done: no loop has anything to do.
        """
        self._queued_at[pool_id] = time.monotonic()
        if load is None or load.idle:
            self.ring("schedule")
        if load is None or load.gangs < load.max_gangs or load.idle:
            self.ring("plan")

    def just_queued(self, pool_id: str) -> bool:
        """Whether a gang that found nobody waiting may have looked a moment too early."""
        return time.monotonic() - self._queued_at.get(pool_id, 0.0) < JUST_S

    def wake(self, *, gangs: Iterable[str] = (), requests: Iterable[str] = (), lease: Lease | None = None) -> None:
        """After a commit: let those who wait look, here at once, on the other replicas soon.

        A gang that waits here for `lease` gets it as it is.
        """
        if lease is not None:
            self.hub.hand(gang_topic(lease.gang), lease)
        topics = [gang_topic(gang) for gang in gangs] + [request_topic(request) for request in requests]
        if topics:
            self.hub.wake(topics)
            self.notifier.tell(topics)


async def office(request: Request) -> Office:
    """The replica's office, as a dependency of routes; async, or each call would take a thread."""
    found: Office = request.app.state.office
    return found
