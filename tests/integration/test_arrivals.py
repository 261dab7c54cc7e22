"""How pods came is kept once per incarnation, in the database's time, and told wherever somebody waits for a gang."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import builders as make
import pytest
from scripted_backend import ScriptedBackend
from sqlalchemy import text

from orchestrator.api import views
from orchestrator.api.waiting import explain
from orchestrator.backends.base import Moments
from orchestrator.backends.places import Places
from orchestrator.domain import explaining as words
from orchestrator.domain.arrival import Arrival
from orchestrator.domain.states import Reason
from orchestrator.loops import observe
from orchestrator.loops.desk import Desk
from orchestrator.settings import Settings
from orchestrator.store import arrivals, explaining, fleet, gang_looks, gangs, incarnations, requests
from orchestrator.store.database import Database, Record, Tx
from orchestrator.web.fleet.starts import stages

LONG_AGO = timedelta(days=365)


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(name="kubeflow:team-a/muster")


@pytest.fixture
def desk(database: Database, backend: ScriptedBackend, tmp_path: Path) -> Desk:
    settings = Settings(folder=tmp_path, api_urls=("http://here:1",))
    return Desk(database=database, places=Places(backend), settings=settings, wake=lambda **_: None)


@pytest.fixture
def gang(desk: Desk) -> make.Gang:
    """Launched a hundred seconds ago, in no time."""
    gang = desk.database.transact(lambda tx: make.launching(tx, make.pool(tx)))
    sql(desk, "UPDATE gang SET planned_at = now() - interval '100 s', launched_at = now() - interval '100 s'")
    sql(desk, "UPDATE gang SET backend = 'kubeflow:team-a/muster'")
    return gang


def sql(desk: Desk, statement: str, **values: Any) -> Any:
    return desk.database.transact(lambda tx: tx.execute(text(statement), values))


def row_of(desk: Desk, gang: make.Gang) -> Record:
    return desk.database.transact(lambda tx: make.gang_row(tx, gang))


def shows(backend: ScriptedBackend, desk: Desk, gang: make.Gang, made: datetime, *after_s: float | None) -> None:
    """The place took the gang when its own clock showed `made`; so much later came scheduled and started."""
    row = row_of(desk, gang)
    backend.shows(gang.id, row.name)
    scheduled, started = (made + timedelta(seconds=s) if s is not None else None for s in (*after_s, None, None)[:2])
    moments = Moments(made=made, scheduled=scheduled, started=started)
    backend.holds[row.name] = replace(backend.holds[row.name], moments=moments)
    observe.run_once(desk)


def known(desk: Desk, gang: make.Gang) -> dict[int, Arrival]:
    found = desk.database.transact(lambda tx: arrivals.of_gangs(tx, [gang.id]))
    return {incarnation: arrival for (_, incarnation), arrival in found.items()}


def after_s(desk: Desk, gang: make.Gang, arrival: Arrival) -> tuple[float | None, float | None]:
    """Since the launch."""
    launched = row_of(desk, gang).launched_at
    moments = (arrival.scheduled, arrival.started)
    return tuple(round((m - launched).total_seconds(), 3) if m else None for m in moments)  # type: ignore[return-value]


def lives(desk: Desk, gang: make.Gang) -> dict[int, tuple[float | None, float | None]]:
    return {number: after_s(desk, gang, one) for number, one in known(desk, gang).items()}


def versions(desk: Desk) -> list[str]:
    """What every write to a row changes."""
    return [row.xmin for row in sql(desk, "SELECT xmin::text FROM gang_arrival ORDER BY gang_id, incarnation")]


@pytest.mark.parametrize("off", [timedelta(), LONG_AGO, -LONG_AGO, timedelta(seconds=3)])
def test_moments_are_kept_in_the_database_s_time_whatever_the_cluster_s_clock_shows(
    desk: Desk, backend: ScriptedBackend, gang: make.Gang, off: timedelta
) -> None:
    made = row_of(desk, gang).launched_at + off
    shows(backend, desk, gang, made)
    assert known(desk, gang) == {1: Arrival()}
    shows(backend, desk, gang, made, 60)
    assert after_s(desk, gang, known(desk, gang)[1]) == (60, None)
    shows(backend, desk, gang, made, 60, 90)
    assert after_s(desk, gang, known(desk, gang)[1]) == (60, 90)


def test_what_is_known_is_not_written_again(desk: Desk, backend: ScriptedBackend, gang: make.Gang) -> None:
    made = row_of(desk, gang).launched_at
    shows(backend, desk, gang, made, 60)
    before = versions(desk)
    shows(backend, desk, gang, made, 60)
    assert versions(desk) == before
    shows(backend, desk, gang, made, 60, 90)
    assert versions(desk) != before


def test_a_place_without_such_steps_leaves_no_row(desk: Desk, backend: ScriptedBackend, gang: make.Gang) -> None:
    backend.shows(gang.id, row_of(desk, gang).name)
    observe.run_once(desk)
    assert known(desk, gang) == {}


def test_a_start_too_fast_to_be_seen_is_recorded_when_it_is_over_and_then_stays(
    desk: Desk, backend: ScriptedBackend, gang: make.Gang
) -> None:
    born = desk.database.transact(lambda tx: make.hello(tx, gang))
    desk.database.transact(lambda tx: make.all_ranks_ready(tx, born))
    made = row_of(desk, gang).launched_at
    shows(backend, desk, gang, made, 10)
    assert known(desk, gang) == {}  # a pod of its next life: it is ready, so those of this one have started
    shows(backend, desk, gang, made, 10, 20)
    shows(backend, desk, gang, made, 80, 90)
    assert after_s(desk, gang, known(desk, gang)[1]) == (10, 20)


def test_each_incarnation_keeps_how_its_own_pods_came(desk: Desk, backend: ScriptedBackend, gang: make.Gang) -> None:
    made = row_of(desk, gang).launched_at
    shows(backend, desk, gang, made, 10, 20)
    born = desk.database.transact(lambda tx: make.hello(tx, gang))
    broken = ("rank 1 died", timedelta(minutes=15))
    desk.database.transact(
        lambda tx: incarnations.break_incarnation(tx, born.id, Reason.RANK_FAILED, *broken, rank=1, node="n1")
    )
    shows(backend, desk, gang, made, 10, 20)
    assert lives(desk, gang) == {1: (10, 20), 2: (10, 20)}
    assert stage(desk, gang) == "start"
    shows(backend, desk, gang, made, 10)
    assert stage(desk, gang) == "restart"
    shows(backend, desk, gang, made)
    assert stage(desk, gang) == "scheduling"
    shows(backend, desk, gang, made, 110, 120)
    assert {number: after_s(desk, gang, one) for number, one in known(desk, gang).items()} == {
        1: (10, 20),
        2: (110, 120),
    }


def stage(desk: Desk, gang: make.Gang) -> str | None:
    def work(tx: Tx) -> str | None:
        told = words.explain_gang(*explaining.gang(tx, "default", gang.id))
        drawn = stages(fleet.gang(tx, gang.id))
        phase = told.findings[0].figures["phase"]
        assert (drawn[-1].name, drawn[-1].seconds) == (phase, None)
        return str(phase)

    return desk.database.transact(work)


def test_whoever_waits_is_told_the_part_of_the_start_and_what_holds_it_up(
    desk: Desk, backend: ScriptedBackend, gang: make.Gang
) -> None:
    pool = desk.database.transact(lambda tx: make.pools_of(tx, "default"))[0]
    request = desk.database.transact(lambda tx: make.queued(tx, pool))
    made = row_of(desk, gang).launched_at

    def said() -> str:
        told = desk.database.transact(lambda tx: explain(tx, requests.get(tx, "default", request)))
        return re.sub(r"\d+m\d+s", "so long", str(told))

    shows(backend, desk, gang, made)
    no_room = (
        "unschedulable",
        "No machine has room for node 0: 0/4 nodes are available: 4 Insufficient nvidia.com/gpu.",
    )
    desk.database.transact(lambda tx: gangs.note_words(tx, {gang.id: no_room}))
    assert said() == f"position 1; cold start: scheduling, so long; gang {gang.id}: {no_room[1].rstrip('.')}"
    assert stage(desk, gang) == "scheduling"
    desk.database.transact(lambda tx: gangs.note_words(tx, {gang.id: (None, None)}))
    shows(backend, desk, gang, made, 60)
    assert said() == f"position 1; cold start: image, so long; gang {gang.id}"
    assert stage(desk, gang) == "image"
    shows(backend, desk, gang, made, 60, 90)
    assert said() == f"position 1; cold start: start, so long; gang {gang.id}"


def test_a_start_is_counted_and_shown_by_its_parts(desk: Desk, backend: ScriptedBackend, gang: make.Gang) -> None:
    shows(backend, desk, gang, row_of(desk, gang).launched_at, 60, 90)
    moved: list[Any] = []
    desk.database.tell = moved.extend
    born = desk.database.transact(lambda tx: make.hello(tx, gang))
    own = {"import": 3.0, "rendezvous": 1.0, "setup": 2.0}
    for rank in range(desk.database.transact(lambda tx: make.world_of(tx, gang))):
        told = (born.id, born.incarnation, rank, own)
        desk.database.transact(lambda tx, told=told: incarnations.rank_ready(tx, *told))  # type: ignore[misc]
    (ready,) = [one for one in moved if one.move == "ready"]
    assert (ready.phases["scheduling"], ready.phases["image"]) == (60, 30)
    assert ready.phases["start"] == pytest.approx(ready.phases["launch"] - 94)
    shown = views.gang(desk.database.transact(lambda tx: gang_looks.get(tx, "default", gang.id)))
    assert list(shown["launch_seconds"]) == ["scheduling", "image", "start", "import", "rendezvous", "setup"]
    assert shown["launch_seconds"]["image"] == 30
    assert shown["scheduled_at"] < shown["started_at"]
    usual = desk.database.transact(lambda tx: explaining.gang(tx, "default", gang.id))[1]
    assert (usual.phases["scheduling"], usual.phases["image"]) == (60, 30)
