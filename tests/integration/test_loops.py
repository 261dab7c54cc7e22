"""One pass of each loop that gives work or gangs: what it takes up, what it does, and what rivals do to it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import builders as make
import pytest
from races import together
from scripted_backend import ScriptedBackend
from sqlalchemy import text

from orchestrator.api.waiting import explain
from orchestrator.backends.base import Failed, Observed, Phase
from orchestrator.backends.places import Places
from orchestrator.domain.placement import Placement
from orchestrator.domain.states import Reason
from orchestrator.errors import BackendError
from orchestrator.loops import launch, observe, plan, schedule, upkeep
from orchestrator.loops.desk import Desk
from orchestrator.settings import Settings
from orchestrator.store import gangs, logs, planning, rank_errors, requests, templates
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.rank_errors import RankError


class Woken:
    """Who was told to look."""

    def __init__(self) -> None:
        self.gangs: list[str] = []
        self.requests: list[str] = []

    def __call__(self, *, gangs: Iterable[str] = (), requests: Iterable[str] = ()) -> None:
        self.gangs += gangs
        self.requests += requests


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def desk(database: Database, backend: ScriptedBackend, woken: Woken, tmp_path: Path) -> Desk:
    settings = Settings(folder=tmp_path, api_urls=("http://here:1",))
    return Desk(database=database, places=Places(backend), settings=settings, wake=woken)


def sql(desk: Desk, statement: str, **values: Any) -> None:
    desk.database.transact(lambda tx: tx.execute(text(statement), values))


def gang_of(desk: Desk, gang: str) -> Record:
    return desk.database.transact(lambda tx: make.gang_row(tx, gang))


def request_of(desk: Desk, request: str) -> Record:
    return desk.database.transact(lambda tx: make.request_row(tx, request))


# --------------------------------------------------------------------------------------------------------- schedule


def test_the_schedule_gives_what_waits_to_free_gangs_and_wakes_them(desk: Desk, woken: Woken) -> None:
    pool = desk.database.transact(make.pool)
    request = desk.database.transact(lambda tx: make.queued(tx, pool))
    assert not schedule.run_once(desk)
    gang = desk.database.transact(lambda tx: make.ready(tx, pool))
    assert schedule.run_once(desk).did == {"assigned": [gang.id]}
    assert woken.gangs == [gang.id] and request_of(desk, request).state == "assigned"
    assert not schedule.run_once(desk)


def test_the_schedule_leaves_a_pool_that_somebody_else_holds(desk: Desk) -> None:
    pool = desk.database.transact(make.pool)
    desk.database.transact(lambda tx: (make.queued(tx, pool), make.ready(tx, pool)))
    with desk.database._engine.begin() as other:
        assert planning.lock_pool(other, pool.id) is not None
        assert not schedule.run_once(desk)
    assert schedule.run_once(desk)


def test_the_schedule_gives_a_batch_gang_its_request_or_lets_it_go(desk: Desk) -> None:
    pool = desk.database.transact(make.pool)

    def batch(tx: Tx) -> tuple[str, str]:
        request = make.queued(tx, pool, placement=Placement.BATCH)
        return request, make.ready(tx, pool, request_id=request).id

    (mine, gang), (canceled, idle) = desk.database.transact(lambda tx: (batch(tx), batch(tx)))
    desk.database.transact(lambda tx: requests.cancel(tx, "default", canceled))
    assert schedule.run_once(desk).did == {"assigned": [gang], "drained": [idle]}
    assert request_of(desk, mine).state == "assigned" and gang_of(desk, idle).state == "draining"


# ------------------------------------------------------------------------------------------------------------- plan


def test_the_plan_records_a_gang_for_what_waits_and_no_second_one(desk: Desk, backend: ScriptedBackend) -> None:
    pool = desk.database.transact(lambda tx: make.pool(tx, pool={"max": 5}))
    desk.database.transact(lambda tx: [make.queued(tx, pool) for _ in range(2)])
    planned = plan.run_once(desk).did["planned"]
    assert len(planned) == 2 and {gang_of(desk, gang).state for gang in planned} == {"planned"}
    assert not plan.run_once(desk) and backend.launches == []


def test_the_plan_keeps_the_minimum_and_never_exceeds_the_maximum(desk: Desk) -> None:
    low = desk.database.transact(lambda tx: make.pool(tx, pool={"min": 2, "max": 3}))
    assert len(plan.run_once(desk).did["planned"]) == 2
    desk.database.transact(lambda tx: [make.queued(tx, low) for _ in range(9)])
    assert len(plan.run_once(desk).did["planned"]) == 1


def test_planners_at_once_plan_once(desk: Desk) -> None:
    desk.database.transact(lambda tx: make.pool(tx, pool={"min": 3, "max": 3}))
    together([lambda: plan.run_once(desk)] * 4)
    plan.run_once(desk)
    assert desk.database.transact(lambda tx: make.count(tx, "SELECT count(*) FROM gang")) == 3


def test_a_gang_that_idled_too_long_is_drained(desk: Desk, woken: Woken) -> None:
    pool = desk.database.transact(lambda tx: make.pool(tx, pool={"idle_timeout_s": 60}))
    gang = desk.database.transact(lambda tx: make.ready(tx, pool))
    assert not plan.run_once(desk)
    sql(desk, "UPDATE gang SET ready_at = ready_at - interval '61 seconds'")
    assert plan.run_once(desk).did == {"drained": [gang.id]} and woken.gangs == [gang.id]
    assert gang_of(desk, gang.id).reason_code == "idle"


def test_gangs_of_an_old_version_go_when_they_are_idle(desk: Desk) -> None:
    pool = desk.database.transact(lambda tx: make.pool(tx, name="digits"))
    lease = desk.database.transact(lambda tx: make.running(tx, pool))
    desk.database.transact(lambda tx: templates.apply(tx, "default", make.template(name="digits", args={"v": 2})))
    assert not plan.run_once(desk)
    desk.database.transact(lambda tx: make.finish(tx, lease))
    assert plan.run_once(desk).did == {"drained": [lease.gang.id]}
    assert gang_of(desk, lease.gang.id).reason_code == "replaced"


def test_what_waits_fails_with_the_cause_when_setup_keeps_failing(desk: Desk, woken: Woken) -> None:
    pool = desk.database.transact(make.pool)
    request = desk.database.transact(lambda tx: make.queued(tx, pool))
    stacks = [{"rank": 1, "node": "n1", "stack": "in setup"}]

    def fail(tx: Tx) -> None:
        gang = make.loading(tx, pool)
        complaint = RankError(
            rank=1,
            node="n1",
            attempt=None,
            phase="setup",
            step=None,
            type="ImportError",
            message="m",
            traceback="tb",
            stacks=stacks,
        )
        rank_errors.record(tx, gang.id, gang.incarnation, complaint)
        gangs.end(tx, gang.id, Reason.SETUP_FAILED, "ImportError: no module")

    desk.database.transact(fail)
    assert "failed" not in plan.run_once(desk).did
    desk.database.transact(fail)
    assert plan.run_once(desk).did["failed"] == [request] == woken.requests
    row = desk.database.transact(lambda tx: requests.get(tx, "default", request))
    assert (row.state, row.reason_code) == ("failed", "setup_failed")
    assert "no module" in row.error["message"]
    assert (row.error["rank"], row.error["node"], row.error["traceback"]) == (1, "n1", "tb")
    assert row.error["stacks"] == stacks


def test_a_pool_that_is_held_plans_nothing_until_the_hold_is_over(desk: Desk) -> None:
    pool = desk.database.transact(make.pool)
    desk.database.transact(lambda tx: make.queued(tx, pool))
    desk.database.transact(lambda tx: gangs.end(tx, make.launching(tx, pool).id, Reason.START_TIMEOUT, "no hello"))
    sql(desk, "UPDATE gang SET present = false")
    assert not plan.run_once(desk)
    sql(desk, "UPDATE pool SET held_until = clock_timestamp()")
    assert len(plan.run_once(desk).did["planned"]) == 1


def test_gangs_whose_processes_may_still_run_count_against_the_maximum(desk: Desk, backend: ScriptedBackend) -> None:
    pool = desk.database.transact(lambda tx: make.pool(tx, pool={"max": 2}))
    desk.database.transact(lambda tx: [make.queued(tx, pool) for _ in range(4)])
    backend.lingers = True
    for _ in range(5):
        plan.run_once(desk)
        launch.run_once(desk)
        living = desk.database.transact(gangs.living)
        desk.database.transact(lambda tx, ids=living: [gangs.end(tx, g, Reason.STOPPED, "overload") for g in ids])  # type: ignore[misc]
    assert len(backend.holds) == 2
    waiting = desk.database.transact(lambda tx: explain(tx, make.request_row(tx, make.queued(tx, pool))))
    assert "2 still ending" in (waiting or "")
    backend.lingers = False
    launch.run_once(desk)
    assert len(plan.run_once(desk).did["planned"]) == 2


def test_a_draining_gang_keeps_its_place_and_a_place_that_is_lost_does_not_for_ever(desk: Desk) -> None:
    pool = desk.database.transact(make.pool)
    lease = desk.database.transact(lambda tx: make.running(tx, pool))
    desk.database.transact(lambda tx: (gangs.drain(tx, lease.gang.id, Reason.DRAINED, "asked"), make.queued(tx, pool)))
    assert not plan.run_once(desk)
    desk.database.transact(lambda tx: gangs.end(tx, lease.gang.id, Reason.STOPPED, "asked"))
    assert not plan.run_once(desk)
    sql(desk, "UPDATE gang SET gone_at = gone_at - interval '11 minutes'")
    assert len(plan.run_once(desk).did["planned"]) == 1
    sql(desk, "UPDATE gang SET present = false")


def test_what_waits_in_a_pool_that_may_hold_no_gang_any_more_goes_on_without_it_or_fails(
    desk: Desk, woken: Woken
) -> None:
    pool = desk.database.transact(make.pool)
    auto, warm = desk.database.transact(lambda tx: [make.queued(tx, pool, mode=mode) for mode in ("auto", "warm")])
    sql(desk, "UPDATE pool SET max_gangs = 0")
    done = plan.run_once(desk).did
    assert (done["placed"], done["failed"]) == ([auto], [warm]) and set(woken.requests) == {auto, warm}
    assert [gang_of(desk, gang).request_id for gang in done["planned"]] == [auto]
    assert "set while it waited" in request_of(desk, auto).placement_reason
    row = request_of(desk, warm)
    assert (row.state, row.reason_code) == ("failed", "no_warm_pool") and "raise the maximum" in row.reason


def test_a_gang_of_a_larger_maximum_serves_what_waits_before_it_goes(desk: Desk) -> None:
    pool = desk.database.transact(make.pool)
    lease = desk.database.transact(lambda tx: make.running(tx, pool))
    request = desk.database.transact(lambda tx: make.queued(tx, pool, mode="warm"))
    sql(desk, "UPDATE pool SET max_gangs = 0")
    assert not plan.run_once(desk)
    desk.database.transact(lambda tx: make.finish(tx, lease))
    assert not plan.run_once(desk)
    schedule.run_once(desk)
    assert request_of(desk, request).state == "assigned"


def test_each_batch_request_gets_a_gang_of_its_own_up_to_the_maximum(desk: Desk) -> None:
    pool = desk.database.transact(lambda tx: make.pool(tx, batch={"max_gangs": 2}))
    mine = [desk.database.transact(lambda tx: make.queued(tx, pool, placement=Placement.BATCH)) for _ in range(3)]
    planned = plan.run_once(desk).did["planned"]
    assert [gang_of(desk, gang).request_id for gang in planned] == mine[:2]
    assert not plan.run_once(desk)


def test_a_batch_gang_whose_request_is_over_is_drained(desk: Desk) -> None:
    pool = desk.database.transact(make.pool)
    request = desk.database.transact(lambda tx: make.queued(tx, pool, placement=Placement.BATCH))
    gang = desk.database.transact(lambda tx: make.loading(tx, pool, request_id=request))
    desk.database.transact(lambda tx: requests.cancel(tx, "default", request))
    assert plan.run_once(desk).did == {"drained": [gang.id]}


def test_a_plan_that_had_to_run_again_reports_what_it_did_and_no_more(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction is repeated when its connection was cut; the first try never happened."""
    pool = desk.database.transact(lambda tx: make.pool(tx, pool={"max": 2}))
    desk.database.transact(lambda tx: [make.queued(tx, pool) for _ in range(2)])
    real, tries = gangs.plan, []

    def cut_once(tx: Tx, *arguments: Any, **named: Any) -> str:
        tries.append(real(tx, *arguments, **named))
        if len(tries) == 2:
            pid = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
            sql(desk, "SELECT pg_terminate_backend(:pid)", pid=pid)
            tx.execute(text("SELECT 1"))
        return tries[-1]

    monkeypatch.setattr(gangs, "plan", cut_once)
    assert plan.run_once(desk).did == {"planned": tries[2:]} and len(tries) == 4


# ----------------------------------------------------------------------------------------------------------- launch


def planned(desk: Desk, **template: Any) -> make.Gang:
    return desk.database.transact(lambda tx: make.planned(tx, make.pool(tx, **template)))


def test_what_is_planned_is_launched_as_its_template_says(desk: Desk, backend: ScriptedBackend) -> None:
    gang = planned(desk, nodes=2, ranks_per_node=4, handler="samples.digits:Digits")
    assert launch.run_once(desk).did == {"launched": [gang.id]}
    (spec,) = backend.launches
    row = gang_of(desk, gang.id)
    assert (spec.gang, spec.name, spec.mode, spec.nodes, spec.ranks_per_node) == (gang.id, row.name, "serve", 2, 4)
    assert spec.api_urls == ("http://here:1",) and spec.template["handler"] == "samples.digits:Digits"
    assert row.state == "launching" and row.launched_at is not None
    opened = make.Gang(id=gang.id, token=spec.token)
    assert desk.database.transact(lambda tx: make.hello(tx, opened)).incarnation == 1
    assert not launch.run_once(desk)


def test_replicas_at_once_launch_each_gang_once(desk: Desk, backend: ScriptedBackend) -> None:
    made = [planned(desk).id for _ in range(5)]
    together([lambda: launch.run_once(desk)] * 4)
    assert sorted(spec.gang for spec in backend.launches) == sorted(made)


def test_a_launch_that_was_refused_for_now_is_repeated_when_its_claim_is_over(
    desk: Desk, backend: ScriptedBackend
) -> None:
    gang = planned(desk)
    backend.refusal = BackendError("no answer", code="timeout")
    assert launch.run_once(desk).did == {"refused": [gang.id]}
    assert not launch.run_once(desk) and gang_of(desk, gang.id).state == "planned"
    backend.refusal = None
    sql(desk, "UPDATE gang SET next_check_at = clock_timestamp()")
    assert launch.run_once(desk).did == {"launched": [gang.id]}


def test_a_launch_that_is_refused_for_longer_than_a_start_may_take_ends_the_gang_with_the_cause(
    desk: Desk, backend: ScriptedBackend
) -> None:
    gang = planned(desk, limits={"start_timeout_s": 60})
    backend.refusal = BackendError("quota used up", code="quota")
    sql(desk, "UPDATE gang SET planned_at = planned_at - interval '61 seconds'")
    launch.run_once(desk)
    row = gang_of(desk, gang.id)
    assert (row.state, row.reason_code) == ("gone", "start_timeout") and "quota used up" in row.reason


@pytest.mark.parametrize("code", ["name_taken", "rejected", "forbidden"])
def test_a_launch_that_was_refused_for_good_ends_the_gang_with_the_cause(
    desk: Desk, backend: ScriptedBackend, woken: Woken, code: str
) -> None:
    gang = planned(desk)
    backend.refusal = BackendError("quota: no", code=code)
    launch.run_once(desk)
    row = gang_of(desk, gang.id)
    assert (row.state, row.reason_code, row.reason) == ("gone", "launch_failed", "quota: no")
    assert woken.gangs == [gang.id]


def test_a_gang_that_was_ended_while_it_was_launched_is_stopped(desk: Desk, backend: ScriptedBackend) -> None:
    gang = planned(desk)
    backend.meanwhile = lambda: desk.database.transact(lambda tx: gangs.end(tx, gang.id, Reason.STOPPED, "not wanted"))
    did = launch.run_once(desk).did
    assert did["removed"] == [gang.id] and backend.holds == {}
    assert gang_of(desk, gang.id).state == "gone" and not gang_of(desk, gang.id).present


def test_a_gang_that_is_gone_is_stopped_until_nothing_is_left_of_it(desk: Desk, backend: ScriptedBackend) -> None:
    gang = planned(desk)
    launch.run_once(desk)
    desk.database.transact(lambda tx: gangs.end(tx, gang.id, Reason.IDLE, "idle"))
    backend.lingers = True
    assert not launch.run_once(desk) and not launch.run_once(desk)
    assert len(backend.stops) == 2 and gang_of(desk, gang.id).present
    backend.lingers = False
    assert launch.run_once(desk).did == {"removed": [gang.id]}
    assert not launch.run_once(desk) and len(backend.stops) == 3


def test_a_backend_that_does_not_stop_one_gang_is_asked_for_the_others(desk: Desk, backend: ScriptedBackend) -> None:
    for _ in range(2):
        gang = planned(desk)
        desk.database.transact(lambda tx, gang=gang: gangs.end(tx, gang.id, Reason.IDLE, "idle"))  # type: ignore[misc]
    backend.refusal = BackendError("no answer")
    assert not launch.run_once(desk)
    assert len(backend.stops) == 2


# ---------------------------------------------------------------------------------------------------------- observe


@pytest.mark.parametrize(
    ("phase", "state", "reason"),
    [
        (Phase.FAILED, "gone", "gang_lost"),
        (Phase.SUCCEEDED, "gone", "drained"),
        (Phase.RUNNING, "ready", None),
        (Phase.PENDING, "ready", None),
    ],
)
def test_a_gang_whose_processes_ended_is_ended_with_its_leases(
    desk: Desk, backend: ScriptedBackend, woken: Woken, phase: Phase, state: str, reason: str | None
) -> None:
    lease = desk.database.transact(lambda tx: make.running(tx, make.pool(tx)))
    name = gang_of(desk, lease.gang.id).name
    backend.shows(lease.gang.id, name, phase, "node 1: exit code 137 (killed)")
    assert bool(observe.run_once(desk)) == (state == "gone")
    row = gang_of(desk, lease.gang.id)
    assert (row.state, row.reason_code) == (state, reason)
    if state == "gone":
        assert row.reason == "node 1: exit code 137 (killed)" and woken.requests == [lease.request]
        assert request_of(desk, lease.request).state == "queued"


def test_a_request_whose_gangs_die_before_hello_fails_with_what_their_ranks_wrote(
    desk: Desk, backend: ScriptedBackend
) -> None:
    pool = desk.database.transact(make.pool)
    request = desk.database.transact(lambda tx: make.queued(tx, pool))
    for _ in range(3):
        gang = desk.database.transact(lambda tx: make.launching(tx, pool))
        name = gang_of(desk, gang.id).name
        failed = Failed(node=0, rank=1, words="ModuleNotFoundError: No module named 'flash_attn'")
        backend.holds[name] = Observed(
            gang=gang.id, name=name, phase=Phase.FAILED, detail="rank 1 ended with exit code 1", failed=failed
        )
        assert observe.run_once(desk).did == {"ended": [gang.id]}
    assert plan.run_once(desk).did["failed"] == [request]
    error = desk.database.transact(lambda tx: requests.get(tx, "default", request)).error
    assert (error["rank"], error["phase"]) == (1, "start") and "flash_attn" in error["traceback"]
    assert "exit code 1" in error["message"]


def test_what_nobody_knows_is_stopped_and_what_is_planned_or_gone_is_left_to_others(
    desk: Desk, backend: ScriptedBackend
) -> None:
    waiting, gone = planned(desk), planned(desk)
    desk.database.transact(lambda tx: gangs.end(tx, gone.id, Reason.IDLE, "idle"))
    for gang in (waiting, gone):
        backend.shows(gang.id, gang_of(desk, gang.id).name, Phase.FAILED)
    backend.shows("gng_unknown", "m-s-unknown")
    assert observe.run_once(desk).did == {"orphaned": ["m-s-unknown"]}
    assert backend.stops == ["m-s-unknown"] and gang_of(desk, waiting.id).state == "planned"


# ----------------------------------------------------------------------------------------------------------- upkeep


def test_old_logs_go_and_young_ones_stay(desk: Desk) -> None:
    gang = desk.database.transact(lambda tx: make.ready(tx, make.pool(tx)))
    now = desk.database.transact(lambda tx: tx.execute(text("SELECT extract(epoch FROM now())")).scalar_one())
    week = timedelta(days=7).total_seconds()
    chunks = [
        logs.Chunk(seq=seq, request=None, at=float(now) - age, text="x")
        for seq, age in enumerate((0, week - 60, week + 60))
    ]
    desk.database.transact(lambda tx: logs.append(tx, gang.id, 1, 0, chunks))
    assert upkeep.run_once(desk).did == {"pruned_logs": ["1"]}
    assert len(desk.database.transact(lambda tx: logs.of_gang(tx, gang.id, None, 10))) == 2
    assert not upkeep.run_once(desk)
