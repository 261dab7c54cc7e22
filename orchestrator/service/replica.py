"""One replica: its doors, its loops and what they share, put together and taken apart."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

from orchestrator import storage
from orchestrator.api import firing
from orchestrator.api.intake import read_named
from orchestrator.api.office import Office
from orchestrator.domain.targets import Policy
from orchestrator.domain.tracing import Tracing
from orchestrator.errors import Invalid
from orchestrator.loops import batches, launch, observe, plan, purge, reading, rescue, schedule, tell, ticks, upkeep
from orchestrator.loops.deliver import Sender
from orchestrator.loops.desk import Desk
from orchestrator.loops.egress import Egress
from orchestrator.loops.rounds import Round, Rounds
from orchestrator.metrics import Metrics
from orchestrator.place import places_of, rehearse, reviews_of
from orchestrator.service.server import BACKLOG, Server
from orchestrator.settings import Settings
from orchestrator.store import tracing
from orchestrator.store.database import Database
from orchestrator.store.wakeups import Notifier
from orchestrator.traces import Traces, exporter

log = logging.getLogger("muster.service")


@contextlib.contextmanager
def replica(settings: Settings, database: Database) -> Iterator[tuple[str, Desk, Rounds]]:
    """The API and the loops of one replica."""
    _require_storage(settings)
    egress = Egress(policy=Policy.read(settings.webhook_hosts))
    settings, doors = _opened(settings)
    url = f"http://{settings.host}:{settings.port}"
    reviews = reviews_of(settings)
    notifier = Notifier(database)
    places = places_of(settings)
    office = Office(
        traces=traces(settings, database),
        database=database,
        settings=settings,
        notifier=notifier,
        ring=lambda name: rounds.ring(name),
        rehearse=lambda tenant, template: rehearse(places.at(places.addresses.of(tenant)), settings, template),
        reviews=reviews,
    )
    office.metrics.watch_places(lambda: len(places.refused))
    desk = Desk(database=database, places=places, settings=settings, wake=office.wake)
    sender = Sender(egress, office.metrics.sent, office.metrics.gave_up)
    rounds = Rounds(duties(desk, sender, office.metrics), office.metrics.passed)
    server = Server(office)
    thread = threading.Thread(target=server.run, args=(doors,), name="muster-http", daemon=True)
    thread.start()
    rounds.start()
    try:
        with _metrics_port(office):
            yield url, desk, rounds
    finally:
        rounds.stop()
        sender.close()
        server.should_exit = True
        thread.join(timeout=15)
        notifier.close()
        places.close()
        if office.traces is not None:
            office.traces.close()


def _require_storage(settings: Settings) -> None:
    storage.require("MUSTER_STORAGE_URL", settings.outputs)
    for url in settings.batch_urls:
        storage.require("MUSTER_BATCH_URLS", url)


def _opened(settings: Settings) -> tuple[Settings, list[socket.socket]]:
    """The doors, and the settings with what is known now: a port that was 0, and where gangs find us if nobody said."""
    doors = []
    for name in ("port", "worker_port", "gateway_port"):
        if (port := getattr(settings, name)) is not None:
            doors.append(listen(settings, port, f"MUSTER_{name.upper()}"))
            settings = replace(settings, **{name: doors[-1].getsockname()[1]})
    if not settings.api_urls:
        settings = replace(settings, api_urls=(f"http://{settings.host}:{settings.worker_port or settings.port}",))
    if settings.gateway_port is not None:
        words = "users of Kubeflow's gateway at port %d"
        log.info(words, settings.gateway_port, extra={"action": "gateway", "port": settings.gateway_port})
    return settings, doors


def listen(settings: Settings, port: int, variable: str) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise Invalid(f"cannot listen on {settings.host}:{port}: {reason}; set {variable}") from None
    listening.listen(BACKLOG)  # who reads our URL before uvicorn runs waits in the queue instead of being refused
    listening.set_inheritable(False)
    return listening


@contextlib.contextmanager
def _metrics_port(office: Office) -> Iterator[None]:
    """The metrics on a port of their own, if the operator gave one."""
    settings = office.settings
    if settings.metrics_port is None:
        yield
        return
    try:
        server = office.metrics.serve(settings.host, settings.metrics_port)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise Invalid(f"no metrics at {settings.host}:{settings.metrics_port}: {reason}; MUSTER_METRICS_PORT") from None
    log.info("metrics at port %d", server.server_port, extra={"action": "metrics", "port": server.server_port})
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def traces(settings: Settings, database: Database) -> Traces | None:
    """Spans of what ends here, if they are asked for. Raises Invalid if it cannot be and MUSTER_TRACES asks for it."""
    if not (settings.otlp if settings.traces is None else settings.traces):
        return None
    try:
        sink = exporter()
    except Invalid as error:
        if settings.traces:
            raise
        log.warning("no traces: %s", error.message, extra={"action": "no_traces"})  # variables that are for others
        return None
    return Traces(
        Tracing(on=True, ratio=settings.traces_ratio),
        sink,
        lambda ids: database.look(lambda tx: tracing.requests(tx, ids)),
        lambda ids: database.look(lambda tx: tracing.batches(tx, ids)),
    )


def duties(desk: Desk, sender: Sender, metrics: Metrics) -> list[Round]:
    rescuer = rescue.Rescue()
    read = partial(read_named, desk.database, desk.settings)
    return [
        Round(name="schedule", run_once=lambda: schedule.run_once(desk), every=timedelta(seconds=0.5)),
        Round(
            name="plan",
            run_once=lambda: plan.run_once(desk),
            every=timedelta(seconds=1),
            then=("launch",),
            gap=timedelta(milliseconds=100),
        ),
        Round(
            name="batches",
            run_once=lambda: batches.run_once(desk),
            every=timedelta(seconds=0.5),
            then=("plan", "schedule"),
        ),
        Round(
            name="read",
            run_once=lambda: reading.run_once(desk, read),
            every=timedelta(seconds=1),
            then=("read", "batches", "plan"),
        ),
        Round(
            name="ticks",
            run_once=lambda: ticks.run_once(desk, partial(firing.start, desk.settings), fired=metrics.fired),
            every=timedelta(seconds=1),
            then=("read", "plan", "schedule"),
        ),
        Round(name="launch", run_once=lambda: launch.run_once(desk), every=timedelta(seconds=1), then=("plan",)),
        Round(name="observe", run_once=lambda: observe.run_once(desk), every=timedelta(seconds=1), then=("plan",)),
        Round(
            name="rescue",
            run_once=lambda: rescuer.run_once(desk),
            every=timedelta(seconds=1),
            then=("schedule", "plan", "launch"),
        ),
        Round(name="deliver", run_once=lambda: sender.run_once(desk), every=timedelta(seconds=1)),
        Round(name="purge", run_once=lambda: purge.run_once(desk), every=timedelta(seconds=15)),
        Round(name="tell", run_once=lambda: tell.run_once(desk), every=timedelta(seconds=3)),
        Round(name="upkeep", run_once=lambda: upkeep.run_once(desk), every=timedelta(minutes=5)),
    ]
