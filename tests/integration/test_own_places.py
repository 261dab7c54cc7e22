"""Gangs of tenants with places of their own: launched, missed, stopped and moved there, and what if one is shut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builders as make
import pytest
from scripted_backend import ScriptedBackend
from sqlalchemy import text

from orchestrator.backends.base import Observed
from orchestrator.backends.places import Places
from orchestrator.domain.placement import Placement
from orchestrator.domain.states import Reason
from orchestrator.errors import BackendError
from orchestrator.loops import batches, launch, observe, plan, tell
from orchestrator.loops.desk import Desk
from orchestrator.settings import Settings
from orchestrator.store import gangs
from orchestrator.store.database import Database, Record, Tx

SHUT = BackendError("The namespace at-a does not let Muster in", code="namespace_gone")


class Place(ScriptedBackend):
    """One that can be shut altogether."""

    def observe(self) -> tuple[Observed, ...]:
        if self.refusal is not None:
            raise self.refusal
        return super().observe()


class Town:
    """A tenant with a place of its own, one without, and a place of earlier settings."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.home, self.own, self.former = Place(name="home"), Place(name="at-a"), Place(name="former")
        self.places = Places(self.home, {"a": self.own}, {"former": self.former}.get)
        settings = Settings(folder=folder, api_urls=("http://here:1",))
        self.desk = Desk(database=database, places=self.places, settings=settings, wake=lambda **_: None)
        self.a, self.b = (self.do(lambda tx, name=name: make.tenant(tx, name)) for name in ("a", "b"))

    def do(self, work: Any) -> Any:
        return self.desk.database.transact(work)

    def sql(self, statement: str, **values: Any) -> None:
        self.do(lambda tx: tx.execute(text(statement), values))

    def gang(self, gang: str) -> Record:
        return self.do(lambda tx: make.gang_row(tx, gang))  # type: ignore[no-any-return]

    def ready_at(self, place: Place, pool: Record, **of: str) -> make.Gang:
        """A gang that has run there for a day."""
        gang: make.Gang = self.do(lambda tx: make.ready(tx, pool, **of))
        day = "planned_at = planned_at - interval '1 day', launched_at = launched_at - interval '1 day'"
        self.sql(f"UPDATE gang SET backend = :b, {day} WHERE id = :g", b=place.name, g=gang.id)
        place.shows(gang.id, self.gang(gang.id).name)
        return gang

    def wants(self, tenant: str) -> Record:
        return self.do(lambda tx: make.pool(tx, tenant=tenant, pool={"min": 1, "max": 1}))  # type: ignore[no-any-return]


@pytest.fixture
def town(database: Database, tmp_path: Path) -> Iterator[Town]:
    here = Town(database, tmp_path)
    yield here
    here.places.close()


def test_a_gang_is_launched_watched_and_ended_at_the_place_of_its_tenant(town: Town) -> None:
    town.wants("a"), town.wants("b")
    made = {town.gang(gang).tenant: gang for gang in plan.run_once(town.desk).did["planned"]}
    launch.run_once(town.desk)
    assert [[spec.gang for spec in place.launches] for place in (town.own, town.home)] == [[made["a"]], [made["b"]]]
    assert not observe.run_once(town.desk)
    tell.run_once(town.desk)
    assert [story.gang for story in town.own.told] == [made["a"]]
    town.do(lambda tx: [gangs.end(tx, gang, Reason.STOPPED, "asked") for gang in made.values()])
    assert sorted(launch.run_once(town.desk).did["removed"]) == sorted(made.values())
    assert town.own.stops == [town.gang(made["a"]).name] and not town.own.holds and not town.home.holds


def test_while_a_place_is_shut_gangs_elsewhere_are_served_and_none_there_is_called_missing(town: Town) -> None:
    mine, other = town.ready_at(town.own, town.wants("a")), town.ready_at(town.home, town.wants("b"))
    town.own.refusal = SHUT
    town.own.holds.clear()
    town.home.holds.clear()
    assert observe.run_once(town.desk).did == {"missed": [other.id]}
    assert town.gang(mine.id).state == "ready", "heartbeats say whether it lives"


def test_a_gang_without_ranks_is_ended_once_its_place_has_been_shut_for_long(town: Town) -> None:
    """Else its pool would count on it until the time for a start is over."""
    pool = town.wants("a")
    gang = town.do(lambda tx: make.launching(tx, pool))
    town.sql("UPDATE gang SET backend = 'at-a', launched_at = launched_at - interval '1 minute'")
    town.own.refusal = SHUT
    assert not observe.run_once(town.desk)
    town.places._shut_since["at-a"] -= 31
    assert observe.run_once(town.desk).did == {"ended": [gang.id]}
    row = town.gang(gang.id)
    assert (row.reason_code, row.present) == ("namespace_gone", False)


def test_where_every_place_is_shut_the_pass_fails(town: Town) -> None:
    town.own.refusal = town.home.refusal = SHUT
    with pytest.raises(BackendError, match="does not let Muster in"):
        observe.run_once(town.desk)


def test_requests_of_a_tenant_whose_namespace_is_gone_fail_with_that_and_nothing_goes_round(town: Town) -> None:
    pool = town.do(lambda tx: make.pool(tx, tenant="a"))
    request = town.do(lambda tx: make.queued(tx, pool, tenant="a"))
    alone = town.do(lambda tx: make.queued(tx, pool, tenant="a", placement=Placement.BATCH))
    batch = town.do(lambda tx: make.batch(tx, pool, items=2, tenant="a"))
    town.own.refusal = SHUT
    for _ in range(6):
        plan.run_once(town.desk)
        launch.run_once(town.desk)
        town.sql("UPDATE pool SET held_until = NULL")
    for _ in range(3):
        batches.run_once(town.desk)
    for failed in (request, alone, town.do(lambda tx: make.item(tx, batch, 1)).id):
        row = town.do(lambda tx, one=failed: make.request_row(tx, one))
        assert (row.state, row.reason_code) == ("failed", "namespace_gone"), failed
        assert "does not let Muster in" in row.reason
    assert town.do(lambda tx: make.batch_row(tx, batch)).reason_code == "namespace_gone"
    tries = len(town.own.launches)
    for _ in range(3):
        plan.run_once(town.desk)
        launch.run_once(town.desk)
    assert len(town.own.launches) == tries, "nothing waits, so nothing is tried"


def test_what_a_shut_place_may_hold_is_asked_for_seldom_and_given_up_in_the_end(town: Town) -> None:
    gang = town.ready_at(town.own, town.wants("a"))
    name = town.gang(gang.id).name
    town.do(lambda tx: gangs.end(tx, gang.id, Reason.STOPPED, "asked"))
    town.own.refusal = SHUT
    for _ in range(3):
        launch.run_once(town.desk)
    assert town.own.stops == [name] and town.gang(gang.id).present
    town.sql("UPDATE gang SET gone_at = gone_at - interval '2 minutes'")
    town.places._quiet_until.clear()
    assert launch.run_once(town.desk).did == {"given_up": [gang.id]}
    assert not observe.run_once(town.desk)
    town.own.refusal = None
    assert observe.run_once(town.desk).did == {"orphaned": [name]}, "it lets us in again, and holds it still"
    assert not town.own.holds


@pytest.mark.parametrize("before", ["home", "former"])
def test_a_warm_gang_of_earlier_settings_serves_until_another_has_taken_its_place(town: Town, before: str) -> None:
    place = getattr(town, before)
    pool = town.wants("a")
    old = town.ready_at(place, pool)
    observe.run_once(town.desk)
    (new,) = plan.run_once(town.desk).did["planned"]
    launch.run_once(town.desk)
    assert town.gang(new).backend == "at-a" and town.gang(old.id).state == "ready"
    assert not plan.run_once(town.desk), "the other one is not there yet"

    def comes(tx: Tx) -> None:
        joined = make.hello(tx, make.Gang(id=new, token=town.own.launches[-1].token))
        make.all_ranks_ready(tx, joined)

    town.do(comes)
    assert plan.run_once(town.desk).did == {"drained": [old.id]}
    row = town.gang(old.id)
    assert row.reason_code == "recycled" and "gangs of a run at at-a now" in row.reason
    town.do(lambda tx: gangs.end(tx, old.id, Reason.DRAINED, "done"))
    launch.run_once(town.desk)
    assert not place.holds and not town.gang(old.id).present
    observe.run_once(town.desk)
    observe.run_once(town.desk)
    assert town.places.addresses.former == ()


def test_batch_gangs_elsewhere_take_no_more_and_young_gangs_are_left_alone_while_replicas_roll(town: Town) -> None:
    pool = town.do(lambda tx: make.pool(tx, tenant="a", batch={"max_gangs": 4}))
    request = town.do(lambda tx: make.queued(tx, pool, tenant="a", placement=Placement.BATCH))
    old = town.ready_at(town.home, pool, request_id=request)
    young = town.do(lambda tx: make.ready(tx, town.wants("a")))
    town.sql("UPDATE gang SET backend = 'home' WHERE id = :g", g=young.id)
    assert old.id in plan.run_once(town.desk).did["drained"]
    assert town.gang(old.id).reason_code == "replaced"
    assert town.gang(young.id).state == "ready"


def test_a_gang_that_nobody_launched_at_a_place_that_was_left_is_launched_at_that_of_its_tenant(town: Town) -> None:
    pool = town.wants("a")
    free, begun = (town.do(lambda tx: gangs.plan(tx, pool, backend="former")) for _ in range(2))
    town.do(lambda tx: gangs.add_token(tx, begun, "t"))
    town.sql("UPDATE gang SET next_check_at = clock_timestamp() - interval '2 minutes'")
    observe.run_once(town.desk)
    assert launch.run_once(town.desk).did == {"launched": [free]}
    assert (town.gang(free).backend, town.gang(begun).backend) == ("at-a", "former")
    town.sql("UPDATE gang SET planned_at = planned_at - interval '6 minutes' WHERE id = :g", g=begun)
    assert plan.run_once(town.desk).did["drained"] == [begun], "something of it may be there"


def test_a_gang_that_is_seen_where_its_row_does_not_say_is_ended_there(town: Town) -> None:
    gang = town.ready_at(town.own, town.wants("a"))
    name = town.gang(gang.id).name
    town.home.shows(gang.id, name)
    assert observe.run_once(town.desk).did == {"orphaned": [name]}
    assert (town.home.stops, town.own.stops) == ([name], []) and town.gang(gang.id).state == "ready"
