"""Schedules for tests: real rows, the real loop, and a clock that a test sets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import builders as make
from scripted_backend import ScriptedBackend
from sqlalchemy import text

from orchestrator.api import firing
from orchestrator.backends.places import Places
from orchestrator.domain.ids import new_id
from orchestrator.domain.schedules import Policy
from orchestrator.loops import ticks
from orchestrator.loops.desk import Desk, Report
from orchestrator.settings import Settings
from orchestrator.store import fires, requests, schedules
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.schedules import Said

BEGIN = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)
FIELD = {"type": "object", "properties": {"date": {"type": "string"}, "at": {"type": "integer"}}}


def moment(said: str) -> datetime:
    """`22T02:00` of November 2026, in UTC."""
    return datetime.fromisoformat(f"2026-11-{said}:00+00:00")


@dataclass
class House:
    """One replica's loop over a database, at a time of the test's choosing."""

    database: Database
    folder: Path
    now: datetime = BEGIN
    settings: Settings = field(init=False)
    desk: Desk = field(init=False)
    template: str = ""
    """Of the pool that requests go to; a new one if none is given."""

    def __post_init__(self) -> None:
        self.settings = Settings(folder=self.folder, batch_urls=("file:///nowhere",))
        self.desk = Desk(database=self.database, places=Places(ScriptedBackend()), settings=self.settings, wake=_nobody)
        self.template = self.template or self.database.transact(lambda tx: make.pool(tx, input=FIELD)).template

    def clock(self, _: Tx) -> datetime:
        return self.now

    def start(self, tx: Tx, schedule: Record, fire: Record) -> fires.Started:
        return firing.start(self.settings, tx, schedule, fire)

    def make(self, cron: str = "0 2 * * *", *, batch: bool = False, paused: bool = False, **policy: Any) -> str:
        """A schedule that is made now; its ID."""
        schedule_id = new_id("sch")
        order: dict[str, Any] = {"template": self.template}
        runs = {"batch": {**order, "url": "file:///nowhere/lines.jsonl"}} if batch else {"request": order}
        said = Said(policy=Policy.model_validate({"cron": cron, **policy}).model_dump(), runs=runs)
        name = schedule_id.replace("_", "-")
        self.database.transact(
            lambda tx: schedules.create(tx, schedule_id, "default", name, said, paused=paused, at=self.now)
        )
        return schedule_id

    def at(self, now: datetime | timedelta) -> Report:
        """One pass of the loop, then or so much later."""
        self.now = self.now + now if isinstance(now, timedelta) else now
        return ticks.run_once(self.desk, self.start, self.clock)

    def fires(self, schedule_id: str) -> list[Record]:
        """Oldest first."""
        return list(reversed(self.database.transact(lambda tx: fires.page(tx, schedule_id, None, 10_000))))

    def told(self, schedule_id: str) -> list[tuple[str, str]]:
        """Each tick and its state, or why it was skipped."""
        return [(f"{one.tick:%dT%H:%M}", one.reason_code or one.state) for one in self.fires(schedule_id)]

    def change(self, schedule_id: str, **policy: Any) -> None:
        """As PATCH does."""

        def work(tx: Tx) -> None:
            row = schedules.lock(tx, "default", schedule_id)
            fires.mint_all(tx, row, self.now)
            schedules.revise(tx, row, Said(policy={**row.policy, **policy}, runs=row.runs), self.now)

        self.database.transact(work)

    def turn(self, schedule_id: str, *, on: bool) -> None:
        """Resume or pause it."""

        def work(tx: Tx) -> None:
            row = schedules.lock(tx, "default", schedule_id)
            fires.mint_all(tx, row, self.now)
            (schedules.resume if on else schedules.pause)(tx, row, self.now)

        self.database.transact(work)

    def end_runs(self) -> None:
        """Every request that is open is canceled."""

        def work(tx: Tx) -> None:
            for one in tx.execute(text("SELECT id FROM request WHERE state = 'queued'")).scalars().all():
                requests.cancel(tx, "default", one)

        self.database.transact(work)

    def retire(self) -> None:
        """Its clock is not the database's: no promise about clocks is to be asked of what it made."""
        clear = "UPDATE schedule SET ended_at = clock_timestamp(), next_check_at = NULL WHERE ended_at IS NULL"
        self.database.transact(partial(_execute, clear))


def _execute(statement: str, tx: Tx) -> None:
    tx.execute(text(statement))


def _nobody(*, gangs: Iterable[str] = (), requests: Iterable[str] = ()) -> None:
    pass
