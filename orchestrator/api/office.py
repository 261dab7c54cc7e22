"""What every route works with: the database, the waiting, the settings; and how a transaction is run from a route."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Request

from orchestrator.api.hub import Hub, gang_topic, request_topic
from orchestrator.domain.template import Template
from orchestrator.settings import Settings
from orchestrator.store import templates
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.scheduling import Lease
from orchestrator.store.wakeups import Notifier

T = TypeVar("T")
POOL_CACHE = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Product:
    """The current version of a template with its pool."""

    pool: Record
    template: Template


@dataclass(kw_only=True)
class Office:
    """One replica's shared things."""

    database: Database
    settings: Settings
    notifier: Notifier
    ring: Callable[[str], None]
    """Rings the bell of a loop: `schedule` or `plan`."""
    hub: Hub = field(default_factory=Hub)
    _limiter: CapacityLimiter | None = None
    _products: dict[tuple[str, str], tuple[float, Product]] = field(default_factory=dict)
    _templates: dict[str, Template] = field(default_factory=dict)

    async def transact(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction on a thread; as many at once as there are connections for it."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(max(2, self.settings.database_connections - 4))
        return await anyio.to_thread.run_sync(self.database.transact, work, limiter=self._limiter)

    async def product(self, tenant: str, name: str) -> Product:
        """The current version of a template; at most a second old."""
        known = self._products.get((tenant, name))
        if known is not None and known[0] > time.monotonic():
            return known[1]
        pool = await self.transact(lambda tx: templates.current_pool(tx, tenant, name))
        return self.learn(tenant, pool)

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


def office(request: Request) -> Office:
    """The replica's office, as a dependency of routes."""
    found: Office = request.app.state.office
    return found
