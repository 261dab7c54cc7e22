"""`up` and `serve`: from settings to a service that runs until it is told to stop."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import replace

from orchestrator import logs
from orchestrator.errors import Invalid
from orchestrator.service.local import end_all_gangs, local_token, own_webhook_key
from orchestrator.service.replica import replica
from orchestrator.settings import Settings
from orchestrator.store import schema
from orchestrator.store.database import Database
from orchestrator.store.embedded import EmbeddedPostgres

log = logging.getLogger("muster.service")

Started = Callable[[str], None]


def up(settings: Settings, *, stop: threading.Event | None = None, started: Started | None = None) -> int:
    """Everything on this machine until `stop` or a signal; gangs end with it. Returns the exit code."""
    logs.configure(settings.log, settings.log_level)
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as stack:
        if settings.database_url is None:
            postgres = stack.enter_context(EmbeddedPostgres(settings.folder / "postgres"))
            settings = replace(settings, database_url=postgres.url)
        if not settings.webhook_keys:
            settings = replace(settings, webhook_keys=(own_webhook_key(settings.folder / "webhook.key"),))
        database = opened(stack, settings)
        schema.migrate(database)
        with replica(settings, database) as (url, desk, rounds):
            stack.enter_context(local_token(settings, database, url))
            _settle()
            log.info("up at %s (its pages: `muster open`)", url, extra={"action": "up", "url": url})
            if started is not None:
                started(url)
            _until(stop)
            log.info("stopping", extra={"action": "stop"})
            rounds.stop()
            end_all_gangs(desk)
    return 0


def serve(settings: Settings, *, stop: threading.Event | None = None) -> int:
    """One replica over the database of the settings. Gangs outlive it. Returns the exit code."""
    logs.configure(settings.log, settings.log_level)
    if settings.database_url is None:
        raise Invalid("`muster serve` needs a database: set MUSTER_DATABASE_URL, or use `muster up`")
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as stack:
        database = opened(stack, settings)
        with replica(settings, database) as (url, _, _):
            _settle()
            log.info("serving at %s", url, extra={"action": "serve", "url": url})
            _until(stop)
            log.info("stopping", extra={"action": "stop"})
    return 0


def opened(stack: contextlib.ExitStack, settings: Settings) -> Database:
    database = Database(settings.database_url or "", connections=settings.database_connections)
    stack.callback(database.close)
    return database


_YOUNG = 10_000
"""Objects more than before at which Python looks for cycles; its own 700 are those of a handful of calls."""


def _settle() -> None:
    """What was made until now stays for good: looking through it for cycles was a tenth of the CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)


def _until(stop: threading.Event | None) -> None:
    """Until the event is set, or SIGINT or SIGTERM comes."""
    stop = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
    while not stop.wait(1.0):
        pass
