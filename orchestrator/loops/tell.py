"""Tells the place where gangs run what they do, for people who look there. Seldom, off every path that matters; nothing
depends on it."""

from __future__ import annotations

import contextlib

from orchestrator.backends.base import Story
from orchestrator.domain.states import GangState
from orchestrator.errors import BackendError
from orchestrator.loops.desk import Desk, Report
from orchestrator.store import gang_looks
from orchestrator.store.database import Record


def run_once(desk: Desk) -> Report:
    """The backend leaves out what is shown already, and what would come too often."""
    for row in desk.database.transact(lambda tx: gang_looks.stories(tx, desk.places.addresses.all)):
        with contextlib.suppress(BackendError):  # its place was let go meanwhile
            desk.places.at(row.backend).tell(_story(row))
    return Report()


def _story(row: Record) -> Story:
    state = row.state if row.state != GangState.READY else "busy" if row.serving else "idle"
    return Story(
        gang=row.id,
        name=row.name,
        state=state,
        why=row.reason,
        incarnation=row.incarnation,
        serving=row.serving[0]["request"] if row.serving else None,
        served=row.served,
    )
