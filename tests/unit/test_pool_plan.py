"""The pool plan: launches what is missing, lets go what is superfluous, never both, never beyond its bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.pool_plan import GangView, PoolView, gives_up, hold_after, plan_pool
from orchestrator.domain.states import Reason

MINUTE = timedelta(minutes=1)


@st.composite
def gang_views(draw: st.DrawFn) -> list[GangView]:
    kinds = draw(st.lists(st.sampled_from(["starting", "idle", "busy"]), max_size=12))
    return [
        GangView(
            id=f"g{n}",
            starting=kind == "starting",
            busy=kind == "busy",
            idle_for=timedelta(seconds=draw(st.integers(0, 120)) if kind == "idle" else 0),
        )
        for n, kind in enumerate(kinds)
    ]


@st.composite
def views(draw: st.DrawFn) -> PoolView:
    low = draw(st.integers(0, 6))
    return PoolView(
        queued=draw(st.integers(0, 30)),
        min_gangs=low,
        max_gangs=low + draw(st.integers(0, 6)),
        idle_timeout=MINUTE,
        current=draw(st.booleans()),
        held=draw(st.booleans()),
        gangs=draw(gang_views()),
    )


def idle_of(view: PoolView) -> list[GangView]:
    return [g for g in view.gangs if not g.busy and not g.starting]


@given(views())
def test_a_plan_launches_or_drains_but_not_both(view: PoolView) -> None:
    plan = plan_pool(view)
    assert plan.launch >= 0
    assert not (plan.launch and plan.drain)


@given(views())
def test_launches_never_exceed_the_maximum(view: PoolView) -> None:
    ceiling = view.max_gangs if view.current else max(1, view.max_gangs)
    assert plan_pool(view).launch == 0 or len(view.gangs) + plan_pool(view).launch <= ceiling


@given(views())
def test_a_held_pool_launches_nothing(view: PoolView) -> None:
    assert plan_pool(replace(view, held=True)).launch == 0


@given(views())
def test_the_minimum_of_the_current_version_is_kept(view: PoolView) -> None:
    view = replace(view, current=True, held=False)
    plan = plan_pool(view)
    assert len(view.gangs) + plan.launch - len(plan.drain) >= min(view.min_gangs, len(view.gangs) + plan.launch)
    assert len(view.gangs) + plan.launch >= view.min_gangs


@given(views())
def test_only_idle_gangs_are_drained_and_each_once(view: PoolView) -> None:
    drain = plan_pool(view).drain
    assert set(drain) <= {g.id for g in idle_of(view)}
    assert len(set(drain)) == len(drain)


@given(views())
def test_nobody_goes_for_whom_work_waits(view: PoolView) -> None:
    left = len(idle_of(view)) - len(plan_pool(view).drain)
    assert left >= min(view.queued, len(idle_of(view)))


@given(views())
def test_all_above_the_minimum_that_idled_too_long_go(view: PoolView) -> None:
    view = replace(view, queued=0, current=True, min_gangs=0)
    expired = {g.id for g in idle_of(view) if g.idle_for >= MINUTE}
    assert expired <= set(plan_pool(view).drain)


@given(views())
def test_what_waits_gets_as_many_gangs_as_it_can_use(view: PoolView) -> None:
    view = replace(view, current=True, held=False)
    soon = sum(1 for g in view.gangs if not g.busy) + plan_pool(view).launch
    assert soon >= view.queued or len(view.gangs) + plan_pool(view).launch >= view.max_gangs


@given(views())
def test_an_old_version_without_work_drains_every_idle_gang_and_starts_none(view: PoolView) -> None:
    view = replace(view, current=False, queued=0)
    plan = plan_pool(view)
    assert plan.launch == 0 and set(plan.drain) == {g.id for g in idle_of(view)}


@given(views())
def test_an_old_version_still_serves_what_waits_for_it(view: PoolView) -> None:
    view = replace(view, current=False, held=False, queued=max(1, view.queued), gangs=[])
    assert plan_pool(view).launch >= 1


def test_the_gang_that_idled_longest_goes_first() -> None:
    gangs = [GangView(id=f"g{n}", starting=False, busy=False, idle_for=MINUTE * n) for n in (1, 3, 2)]
    view = PoolView(queued=0, min_gangs=2, max_gangs=9, idle_timeout=MINUTE, current=True, held=False, gangs=gangs)
    assert plan_pool(view).drain == ("g3",)


def test_above_the_maximum_patience_ends_at_once() -> None:
    gangs = [GangView(id=f"g{n}", starting=False, busy=False, idle_for=timedelta()) for n in range(3)]
    view = PoolView(queued=0, min_gangs=0, max_gangs=1, idle_timeout=MINUTE, current=True, held=False, gangs=gangs)
    assert len(plan_pool(view).drain) == 2


@pytest.mark.parametrize(("failed", "seconds"), [(0, 1), (1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (1000, 300)])
def test_the_hold_after_failed_starts_doubles_up_to_five_minutes(failed: int, seconds: int) -> None:
    assert hold_after(failed) == timedelta(seconds=seconds)


def test_a_setup_that_raises_is_given_up_sooner_than_a_start_that_fails() -> None:
    for reason in (Reason.SETUP_FAILED, Reason.WARMUP_FAILED):
        assert [gives_up(n, reason) for n in (1, 2)] == [False, True]
    assert [gives_up(n, Reason.LAUNCH_FAILED) for n in (2, 3)] == [False, True]
