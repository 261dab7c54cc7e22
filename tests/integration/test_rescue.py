"""One pass of the rescue: it ends what outlived its clock, and nothing that may still be alive."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import builders as make
import pytest
from builders import LEASE
from scripted_backend import ScriptedBackend
from sqlalchemy import text

from orchestrator.backends.places import Places
from orchestrator.domain.states import Reason
from orchestrator.errors import Unavailable
from orchestrator.loops.desk import Desk, Report
from orchestrator.loops.rescue import LONGEST_GOODBYE, Rescue
from orchestrator.settings import Settings
from orchestrator.store import gangs, requests
from orchestrator.store.database import Database, Record

LONG_AGO = -1e9


class Woken:
    """Who was told to look."""

    def __init__(self) -> None:
        self.gangs: list[str] = []
        self.requests: list[str] = []

    def __call__(self, *, gangs: Iterable[str] = (), requests: Iterable[str] = ()) -> None:
        self.gangs += gangs
        self.requests += requests


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def desk(database: Database, woken: Woken, tmp_path: Path) -> Desk:
    return Desk(database=database, places=Places(ScriptedBackend()), settings=Settings(folder=tmp_path), wake=woken)


def rescue(desk: Desk, *, since: float | None = LONG_AGO) -> Report:
    """A pass when every clock rings, of a process that has been listening since then (None: it just started)."""
    sql(desk, "UPDATE gang SET next_check_at = clock_timestamp() WHERE state <> 'gone'")
    sql(desk, "UPDATE request SET next_check_at = clock_timestamp() WHERE next_check_at IS NOT NULL")
    rescuer = Rescue()
    rescuer._listening_since = since
    return rescuer.run_once(desk)


def sql(desk: Desk, statement: str, **values: Any) -> None:
    desk.database.transact(lambda tx: tx.execute(text(statement), values))


def silence(desk: Desk, age: timedelta) -> None:
    sql(desk, "UPDATE gang_beat SET seen_at = clock_timestamp() - :s * interval '1 second'", s=age.total_seconds())


def running(desk: Desk, **changes: Any) -> make.Lease:
    return desk.database.transact(lambda tx: make.running(tx, make.pool(tx), **changes))


def gang_of(desk: Desk, gang: str) -> Record:
    return desk.database.transact(lambda tx: make.gang_row(tx, gang))


def request_of(desk: Desk, request: str) -> Record:
    return desk.database.transact(lambda tx: make.request_row(tx, request))


def test_a_gang_that_fell_silent_is_ended_and_its_request_tried_again(desk: Desk, woken: Woken) -> None:
    lease = running(desk)
    silence(desk, LEASE + timedelta(seconds=1))
    assert rescue(desk).did == {"ended": [lease.gang.id]}
    assert gang_of(desk, lease.gang.id).reason_code == "lease_expired"
    assert request_of(desk, lease.request).state == "queued"
    assert woken.gangs == [lease.gang.id] and woken.requests == [lease.request]


def test_a_gang_that_beat_within_its_lease_is_left_alone(desk: Desk) -> None:
    lease = running(desk)
    silence(desk, LEASE - timedelta(seconds=5))
    assert not rescue(desk)
    assert gang_of(desk, lease.gang.id).state == "ready"
    assert request_of(desk, lease.request).state == "running"


def test_after_a_start_silence_counts_only_from_then(desk: Desk) -> None:
    """Gangs could not beat while nobody listened."""
    lease = running(desk)
    silence(desk, timedelta(hours=1))
    assert not rescue(desk, since=None)
    assert gang_of(desk, lease.gang.id).state == "ready"


def test_after_the_database_was_away_silence_counts_anew(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    running(desk)
    silence(desk, timedelta(hours=1))
    rescuer = Rescue()
    rescuer._listening_since = LONG_AGO
    with monkeypatch.context() as away:
        away.setattr(gangs, "overdue", _unavailable)
        with pytest.raises(Unavailable):
            rescuer.run_once(desk)
    sql(desk, "UPDATE gang SET next_check_at = clock_timestamp()")
    assert not rescuer.run_once(desk)


def _unavailable(*_: object) -> None:
    raise Unavailable("away")


def test_a_clock_that_has_not_rung_is_not_looked_at(desk: Desk) -> None:
    running(desk)
    silence(desk, timedelta(hours=1))
    sql(desk, "UPDATE gang SET next_check_at = clock_timestamp() + interval '1 minute'")
    rescuer = Rescue()
    rescuer._listening_since = LONG_AGO
    assert not rescuer.run_once(desk)


def test_what_another_replica_looks_at_is_skipped(desk: Desk) -> None:
    lease = running(desk)
    silence(desk, timedelta(hours=1))
    sql(desk, "UPDATE gang SET next_check_at = clock_timestamp()")
    with desk.database._engine.begin() as other:
        assert [row.id for row in gangs.overdue(other)] == [lease.gang.id]
        rescuer = Rescue()
        rescuer._listening_since = LONG_AGO
        assert not rescuer.run_once(desk)


@pytest.mark.parametrize("state", ["launching", "loading"])
def test_a_start_that_never_ends_is_ended(desk: Desk, state: str) -> None:
    build = make.launching if state == "launching" else make.loading
    gang = desk.database.transact(lambda tx: build(tx, make.pool(tx, limits={"start_timeout_s": 100})))
    assert not rescue(desk)
    sql(desk, "UPDATE gang SET launched_at = launched_at - interval '101 s', hello_at = hello_at - interval '101 s'")
    assert rescue(desk).did == {"ended": [gang.id]}
    assert gang_of(desk, gang.id).reason_code == "start_timeout"


def test_a_gang_that_no_place_takes_is_ended(desk: Desk) -> None:
    gang = desk.database.transact(lambda tx: make.planned(tx, make.pool(tx, limits={"start_timeout_s": 60})))
    sql(desk, "UPDATE gang SET planned_at = planned_at - interval '4 minutes'")
    assert not rescue(desk, since=None)
    assert rescue(desk).did == {"ended": [gang.id]}
    assert gang_of(desk, gang.id).reason_code == "start_timeout"


def test_a_gang_that_has_drained_may_say_goodbye_but_not_for_ever(desk: Desk) -> None:
    gang = desk.database.transact(lambda tx: make.ready(tx, make.pool(tx)))
    desk.database.transact(lambda tx: gangs.drain(tx, gang.id, Reason.IDLE, "idle for 600 s"))
    assert not rescue(desk)
    sql(
        desk,
        "UPDATE event SET at = at - :s * interval '1 second' WHERE move = 'drain'",
        s=LONGEST_GOODBYE.total_seconds() + 1,
    )
    assert rescue(desk).did == {"ended": [gang.id]}
    assert gang_of(desk, gang.id).reason == "idle for 600 s"


def test_a_draining_gang_keeps_its_lease_as_long_as_it_beats(desk: Desk) -> None:
    lease = running(desk)
    desk.database.transact(lambda tx: gangs.drain(tx, lease.gang.id, Reason.IDLE, "idle"))
    sql(desk, "UPDATE event SET at = at - interval '1 hour' WHERE move = 'drain'")
    assert not rescue(desk)
    assert request_of(desk, lease.request).state == "running"


def test_a_gang_that_was_never_launched_drains_at_once(desk: Desk) -> None:
    gang = desk.database.transact(lambda tx: make.planned(tx, make.pool(tx)))
    desk.database.transact(lambda tx: gangs.drain(tx, gang.id, Reason.IDLE, "idle"))
    assert rescue(desk).did == {"ended": [gang.id]}


def test_a_request_that_did_not_start_in_time_expires(desk: Desk, woken: Woken) -> None:
    pool = desk.database.transact(make.pool)
    late, early = (
        desk.database.transact(lambda tx, s=s: make.queued(tx, pool, start_within_s=s))  # type: ignore[misc]
        for s in (0.001, 60.0)
    )
    assert rescue(desk).did == {"expired": [late]} and woken.requests == [late]
    row = desk.database.transact(lambda tx: requests.get(tx, "default", late))
    assert (row.state, row.reason_code, row.error["code"]) == ("expired", "deadline", "deadline")
    assert request_of(desk, early).state == "queued"
    assert request_of(desk, early).next_check_at <= request_of(desk, early).start_by


def test_an_attempt_that_outlives_its_time_limit_ends_its_gang(desk: Desk) -> None:
    lease = running(desk, timeout_s=10.0)
    assert not rescue(desk)
    sql(desk, "UPDATE request SET assigned_at = assigned_at - interval '41 seconds'")
    assert rescue(desk).did == {"expired": [lease.request]}
    assert gang_of(desk, lease.gang.id).state == "gone" and request_of(desk, lease.request).state == "queued"


def test_a_cancel_that_a_gang_does_not_hear_ends_the_gang_within_a_minute(desk: Desk) -> None:
    lease = running(desk)
    desk.database.transact(lambda tx: requests.cancel(tx, "default", lease.request))
    due = desk.database.transact(
        lambda tx: tx.execute(text("SELECT next_check_at - clock_timestamp() FROM request")).scalar_one()
    )
    assert due <= timedelta(seconds=60) and not rescue(desk)
    sql(desk, "UPDATE event SET at = at - interval '46 seconds' WHERE move = 'ask_cancel'")
    assert rescue(desk).did == {"expired": [lease.request]}
    assert request_of(desk, lease.request).state == "canceled" and gang_of(desk, lease.gang.id).state == "gone"


def test_every_open_request_gets_a_clock_again(desk: Desk) -> None:
    pool = desk.database.transact(make.pool)
    waiting = desk.database.transact(lambda tx: make.queued(tx, pool))
    lease = running(desk)
    assert not rescue(desk)
    for request in (waiting, lease.request):
        row = request_of(desk, request)
        now = desk.database.transact(lambda tx: tx.execute(text("SELECT clock_timestamp()")).scalar_one())
        assert now < row.next_check_at <= now + timedelta(minutes=1)
