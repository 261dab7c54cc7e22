"""What `muster up` adds on one machine: a token for the same user's CLI, a key for webhooks, the end of all gangs."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from orchestrator.domain.ids import new_token
from orchestrator.domain.states import Reason
from orchestrator.errors import BackendError, MusterError
from orchestrator.loops import launch
from orchestrator.loops.desk import Desk, Report
from orchestrator.loops.rounds import Round, Rounds
from orchestrator.settings import Settings
from orchestrator.store import gangs, tokens
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope

LOCAL_TOKEN = "local"  # noqa: S105 - a name
LOCAL_TOKEN_LASTS = timedelta(hours=1)
"""Without renewal: what a killed `up` leaves behind is worthless soon, even if none is ever started again."""


@contextlib.contextmanager
def local_token(settings: Settings, database: Database, url: str) -> Iterator[None]:
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


def own_webhook_key(path: Path) -> str:
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


def end_all_gangs(desk: Desk, patience: timedelta = timedelta(seconds=20)) -> None:
    """What runs here ends here: requests go back to the queue, processes end within the patience."""
    for gang_id in desk.database.transact(gangs.living):
        _end_gang(desk, gang_id)
    deadline = time.monotonic() + patience.total_seconds()
    while (left := _left(desk)) and time.monotonic() < deadline:
        for place, name in left:
            with contextlib.suppress(BackendError):
                desk.places.at(place).stop(name, min(desk.settings.stop_grace, timedelta(seconds=5)))
        time.sleep(0.1)
    launch.run_once(desk)


def _left(desk: Desk) -> list[tuple[str, str]]:
    """What runs still: place and name."""
    return [(place, one.name) for place, seen in desk.places.survey().seen.items() for one in seen]


def _end_gang(desk: Desk, gang_id: str) -> None:
    desk.settle(desk.database.transact(lambda tx: gangs.end(tx, gang_id, Reason.STOPPED, "muster up ended")))
