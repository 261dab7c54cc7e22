"""The HTTP door, put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import FastAPI

from orchestrator.api import (
    afterwards,
    batch_items,
    batch_shapes,
    batches,
    catalog,
    catalog_shapes,
    events,
    explain,
    files,
    gate,
    health,
    keys,
    leases,
    listing,
    outputs,
    problems,
    requests,
    schedules,
    scrape,
    tails,
    validating,
    webhooks,
    word,
    worker,
)
from orchestrator.api.contract import Described
from orchestrator.api.doors import Doors, of_ports
from orchestrator.api.hub import gang_topic, request_topic
from orchestrator.api.lane import Lane
from orchestrator.api.measured import Measured
from orchestrator.api.office import Office
from orchestrator.errors import MusterError
from orchestrator.store import wakeups
from orchestrator.store.wakeups import Listener

SAFETY_NET_S = 2.0
"""How often the missed wake-ups of all who wait here are looked for, with one query."""


def build(office: Office) -> FastAPI:
    """The application of one replica."""
    app = described()
    app.state.office = office
    problems.install(app)
    settings = office.settings
    app.add_middleware(Lane, office=office, ways=(requests.SHORT, *leases.SHORT))
    if ports := of_ports(settings):
        app.add_middleware(Doors, ports=ports)
    app.add_middleware(gate.Gate, known=gate.names(settings), pages=frozenset(settings.hosts))
    app.add_middleware(Measured, metrics=office.metrics)
    return app


def described() -> Described:
    """All routes and what /openapi.json says of them, without a replica behind."""
    app = Described(
        title="Muster",
        version=version("muster-orchestrator"),
        description="Requests that need a whole gang of ranks, online and in batch.",
        lifespan=_life,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        redirect_slashes=False,  # a redirect would send the token once more, to wherever Host says
    )
    app.bodies = (catalog_shapes.TemplateDraft, batch_shapes.NamedBatchOrder)
    for router in (
        leases.router,
        requests.router,
        batches.router,
        batch_items.router,
        schedules.router,
        afterwards.router,
        validating.router,
        listing.router,
        events.router,
        tails.router,
        outputs.router,
        files.router,
        worker.router,
        word.router,
        catalog.router,
        explain.router,
        keys.router,
        webhooks.router,
        health.router,
        scrape.router,
    ):
        app.include_router(router)
    return app


@contextlib.asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    office: Office = app.state.office
    office.hub.open()
    listener = await asyncio.to_thread(Listener, office.database, heard=office.hub.wake, lost=office.hub.wake_all)
    net = asyncio.create_task(_catch_missed(office))
    try:
        yield
    finally:
        net.cancel()
        office.hub.close()
        await asyncio.to_thread(listener.close)


async def _catch_missed(office: Office) -> None:
    while True:
        await asyncio.sleep(SAFETY_NET_S)
        with contextlib.suppress(MusterError):
            await _wake_followers(office)
        gangs, requests_ = office.hub.waiting("g:"), office.hub.waiting("r:")
        if not gangs and not requests_:
            continue
        with contextlib.suppress(MusterError):
            missed = await office.transact(lambda tx, g=gangs, r=requests_: wakeups.missed(tx, g, r))  # type: ignore[misc]
            office.hub.wake([gang_topic(g) for g in missed.gangs] + [request_topic(r) for r in missed.requests])


async def _wake_followers(office: Office) -> None:
    """Of requests that moved without a word to this replica, or are gone."""
    known = dict(office.followed)
    if known:
        found = await office.look(lambda tx: wakeups.versions(tx, list(known)))
        office.hub.wake(request_topic(one) for one, version in known.items() if found.get(one) != version)
