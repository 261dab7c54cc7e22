"""Puts the rooms together: `up` runs everything on this machine, `serve` one replica over a given database."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import uvicorn

from orchestrator import logs
from orchestrator.api.app import build
from orchestrator.api.intake import read_named
from orchestrator.api.office import Office
from orchestrator.api.wire.house import House
from orchestrator.api.wire.limits import Limits
from orchestrator.api.wire.protocol import GuardedProtocol
from orchestrator.domain.ids import new_token
from orchestrator.domain.states import Reason
from orchestrator.domain.targets import Policy
from orchestrator.errors import BackendError, Invalid, MusterError
from orchestrator.loops import batches, launch, observe, plan, purge, rescue, schedule, tell, upkeep
from orchestrator.loops.deliver import Sender
from orchestrator.loops.desk import Desk, Report
from orchestrator.loops.egress import Egress
from orchestrator.loops.rounds import Round, Rounds
from orchestrator.place import backend_of, rehearse
from orchestrator.settings import Settings
from orchestrator.store import gangs, schema, tenants, tokens
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.store.tokens import Scope
from orchestrator.store.wakeups import Notifier

log = logging.getLogger("muster.service")

LOCAL_TOKEN = "local"  # noqa: S105 - a name
LOCAL_TOKEN_LASTS = timedelta(hours=1)
"""Without renewal: what a killed `up` leaves behind is worthless soon, even if none is ever started again."""
BACKLOG = 4096
OWN_FILES = 256
"""Kept for the database, gangs, files that are served."""
Started = Callable[[str], None]
T = TypeVar("T")


def up(settings: Settings, *, stop: threading.Event | None = None, started: Started | None = None) -> int:
    """Everything on this machine until `stop` or a signal; gangs end with it. Returns the exit code."""
    logs.configure(settings.log, settings.log_level)
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as stack:
        if settings.database_url is None:
            postgres = stack.enter_context(EmbeddedPostgres(settings.folder / "postgres"))
            settings = replace(settings, database_url=postgres.url)
        if not settings.webhook_keys:
            settings = replace(settings, webhook_keys=(_own_webhook_key(settings.folder / "webhook.key"),))
        database = _opened(stack, settings)
        schema.migrate(database)
        with _replica(settings, database) as (url, desk, rounds):
            stack.enter_context(_local_token(settings, database, url))
            log.info("up at %s", url, extra={"action": "up", "url": url})
            if started is not None:
                started(url)
            _until(stop)
            log.info("stopping", extra={"action": "stop"})
            rounds.stop()
            _end_all_gangs(desk)
    return 0


def serve(settings: Settings, *, stop: threading.Event | None = None) -> int:
    """One replica over the database of the settings. Gangs outlive it. Returns the exit code."""
    logs.configure(settings.log, settings.log_level)
    if settings.database_url is None:
        raise Invalid("`muster serve` needs a database: set MUSTER_DATABASE_URL, or use `muster up`")
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as stack:
        database = _opened(stack, settings)
        with _replica(settings, database) as (url, _, _):
            log.info("serving at %s", url, extra={"action": "serve", "url": url})
            _until(stop)
            log.info("stopping", extra={"action": "stop"})
    return 0


def migrate(database_url: str) -> str:
    """Bring the schema to the newest revision and return it."""
    database = Database(database_url, connections=1)
    try:
        return schema.migrate(database)
    finally:
        database.close()


def first_token(
    database_url: str,
    *,
    name: str,
    scopes: Sequence[str],
    expires_in: timedelta | None = None,
    tenant: str = "default",
) -> str:
    """A token made straight in the database, for the first person of a tenant. Raises Invalid."""
    unknown = sorted(set(scopes) - set(Scope))
    if unknown:
        raise Invalid(f"no scope {unknown[0]!r}; there are {', '.join(Scope)}")
    granted = [Scope(scope) for scope in scopes]

    def work(tx: Tx) -> str:
        if tenant not in {row.id for row in tenants.list_all(tx)}:
            raise Invalid(f"no tenant {tenant!r}: `muster tenant set {tenant}` makes it")
        return tokens.create(tx, tenant=tenant, name=name, scopes=granted, expires_in=expires_in)[1]

    return _once(database_url, work)


def set_tenant(database_url: str, name: str, bounds: Mapping[str, float | None]) -> dict[str, Any]:
    """Make a tenant, or change its bounds, straight in the database. Raises Invalid."""
    return _once(database_url, lambda tx: _shown(tenants.set_bounds(tx, name, bounds)))


def list_tenants(database_url: str) -> list[dict[str, Any]]:
    """Every tenant with its bounds."""
    return _once(database_url, lambda tx: [_shown(row) for row in tenants.list_all(tx)])


def _shown(tenant: Record) -> dict[str, Any]:
    return {name: getattr(tenant, name) for name in ("id", *tenants.BOUNDS)}


def _once(database_url: str, work: Callable[[Tx], T]) -> T:
    """One transaction of a command that needs no service."""
    database = Database(database_url, connections=1)
    try:
        return database.transact(work)
    finally:
        database.close()


def _opened(stack: contextlib.ExitStack, settings: Settings) -> Database:
    database = Database(settings.database_url or "", connections=settings.database_connections)
    stack.callback(database.close)
    return database


@contextlib.contextmanager
def _replica(settings: Settings, database: Database) -> Iterator[tuple[str, Desk, Rounds]]:
    """The API and the loops of one replica."""
    egress = Egress(policy=Policy.read(settings.webhook_hosts))
    doors = [_listen(settings, settings.port, "MUSTER_PORT")]
    if settings.worker_port is not None:
        doors.append(_listen(settings, settings.worker_port, "MUSTER_WORKER_PORT"))
        settings = replace(settings, worker_port=doors[-1].getsockname()[1])
    urls = [f"http://{settings.host}:{door.getsockname()[1]}" for door in doors]
    if not settings.api_urls:
        settings = replace(settings, api_urls=(urls[-1],))
    notifier = Notifier(database)
    backend = backend_of(settings)
    office = Office(
        database=database,
        settings=settings,
        notifier=notifier,
        ring=lambda name: rounds.ring(name),
        rehearse=lambda template: rehearse(backend, settings, template),
    )
    desk = Desk(database=database, backend=backend, settings=settings, wake=office.wake)
    sender = Sender(egress, office.metrics.sent)
    rounds = Rounds(_duties(desk, sender), office.metrics.passed)
    server = _Server(office)
    thread = threading.Thread(target=server.run, args=(doors,), name="muster-http", daemon=True)
    thread.start()
    rounds.start()
    try:
        with _metrics_port(office):
            yield urls[0], desk, rounds
    finally:
        rounds.stop()
        sender.close()
        server.should_exit = True
        thread.join(timeout=15)
        notifier.close()
        desk.backend.close()


def _listen(settings: Settings, port: int, variable: str) -> socket.socket:
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


def _duties(desk: Desk, sender: Sender) -> list[Round]:
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
            run_once=lambda: batches.run_once(desk, read),
            every=timedelta(seconds=0.5),
            then=("plan", "schedule"),
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


class _Server(uvicorn.Server):
    """Uvicorn on a thread of ours; parked polls are answered before it waits for open requests."""

    def __init__(self, office: Office) -> None:
        limits = _within_files(Limits.of(office.settings))
        self.house = House(connections=limits.connections, idle=limits.idle)
        super().__init__(
            uvicorn.Config(
                build(office),
                http=cast(Any, partial(GuardedProtocol, limits=limits, house=self.house)),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=math.ceil(office.settings.keep_alive.total_seconds()),
                timeout_graceful_shutdown=10,
                backlog=BACKLOG,
            )
        )
        self._hub = office.hub

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hub.close()
        await super().shutdown(sockets)


def _within_files(limits: Limits) -> Limits:
    """Each connection is a file, and the process needs some for itself: those are taken from the connections."""
    with contextlib.suppress(ValueError, OSError):  # macOS has a bound below what it calls the hard one
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=max(1, min(limits.connections, files - OWN_FILES)))


def _until(stop: threading.Event | None) -> None:
    """Until the event is set, or SIGINT or SIGTERM comes."""
    stop = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
    while not stop.wait(1.0):
        pass


@contextlib.contextmanager
def _local_token(settings: Settings, database: Database, url: str) -> Iterator[None]:
    """A token of this run for the CLI of the same user on this machine."""
    scopes = (Scope.READ, Scope.SUBMIT, Scope.ADMIN)
    _revoke_leftover(settings, database)
    token_id, token = database.transact(
        lambda tx: tokens.create(tx, tenant="default", name=LOCAL_TOKEN, scopes=scopes, expires_in=LOCAL_TOKEN_LASTS)
    )
    _write_private(settings.local_file, json.dumps({"url": url, "token": token}))
    renewal = Rounds([Round(name="token", run_once=lambda: _renew(database, token_id), every=LOCAL_TOKEN_LASTS / 12)])
    renewal.start()
    try:
        yield
    finally:
        renewal.stop()
        settings.local_file.unlink(missing_ok=True)
        with contextlib.suppress(MusterError):
            database.transact(lambda tx: tokens.revoke(tx, "default", token_id))


def _revoke_leftover(settings: Settings, database: Database) -> None:
    """The token of a run in this folder that was killed before it could do so."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        token = str(json.loads(settings.local_file.read_text())["token"])
        database.transact(lambda tx: tokens.revoke_leftover(tx, token))


def _renew(database: Database, token_id: str) -> Report:
    database.transact(lambda tx: tokens.prolong(tx, token_id, LOCAL_TOKEN_LASTS))
    return Report()


def _own_webhook_key(path: Path) -> str:
    """Made once in this folder: the secrets that receivers know are derived from it."""
    if not path.exists():
        _write_private(path, new_token())
    return path.read_text().strip()


def _write_private(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


def _end_gang(desk: Desk, gang_id: str) -> None:
    desk.settle(desk.database.transact(lambda tx: gangs.end(tx, gang_id, Reason.STOPPED, "muster up ended")))


def _end_all_gangs(desk: Desk, patience: timedelta = timedelta(seconds=20)) -> None:
    """What runs here ends here: requests go back to the queue, processes end within the patience."""
    for gang_id in desk.database.transact(gangs.living):
        _end_gang(desk, gang_id)
    deadline = time.monotonic() + patience.total_seconds()
    while (left := desk.backend.observe()) and time.monotonic() < deadline:
        for one in left:
            with contextlib.suppress(BackendError):
                desk.backend.stop(one.name, min(desk.settings.stop_grace, timedelta(seconds=5)))
        time.sleep(0.1)
    launch.run_once(desk)
