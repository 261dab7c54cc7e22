"""Placement: slots are shared fairly and exactly; the path of a request is decided from figures, with the reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.placement import (
    Candidate,
    Mode,
    Placement,
    PoolLoad,
    Slot,
    backoff,
    choose,
    needs_history,
    place,
    predicted_wait,
)

TENANTS = ("ann", "bob", "cid", "dee")


@st.composite
def backlogs(draw: st.DrawFn) -> list[Candidate]:
    """Queued requests of several tenants, each tenant's in due order."""
    candidates = []
    for tenant in TENANTS:
        vtime, weight = draw(st.floats(0, 100)), draw(st.sampled_from([0.5, 1.0, 2.0, 4.0]))
        for number in range(draw(st.integers(0, 8))):
            candidates.append(Candidate(request=f"{tenant}-{number}", tenant=tenant, vtime=vtime, weight=weight))
    return candidates


slots_strategy = st.integers(0, 20).map(lambda n: [Slot(gang=f"g{i}", incarnation=1) for i in range(n)])


@given(slots_strategy, backlogs())
def test_every_slot_and_every_request_is_used_at_most_once(slots: list[Slot], backlog: list[Candidate]) -> None:
    chosen = choose(slots, backlog)
    assert len({c.slot.gang for c in chosen}) == len(chosen) == len({c.request for c in chosen})
    assert {c.slot for c in chosen} <= set(slots)
    assert {(c.request, c.tenant) for c in chosen} <= {(b.request, b.tenant) for b in backlog}


@given(slots_strategy, backlogs())
def test_no_slot_stays_free_while_something_waits(slots: list[Slot], backlog: list[Candidate]) -> None:
    assert len(choose(slots, backlog)) == min(len(slots), len(backlog))


@given(slots_strategy, backlogs())
def test_each_tenant_is_served_in_its_own_order(slots: list[Slot], backlog: list[Candidate]) -> None:
    chosen = choose(slots, backlog)
    for tenant in TENANTS:
        served = [c.request for c in chosen if c.tenant == tenant]
        assert served == [b.request for b in backlog if b.tenant == tenant][: len(served)]


@given(slots_strategy, backlogs(), st.sampled_from([0.25, 1.0, 30.0]))
def test_no_tenant_gets_more_than_one_request_ahead_of_its_share(
    slots: list[Slot], backlog: list[Candidate], cost: float
) -> None:
    """Whoever was served had, before its last request, no more virtual time than anybody who still waits has now."""
    chosen = choose(slots, backlog, cost)
    weights = {b.tenant: b.weight for b in backlog}
    vtimes = {b.tenant: b.vtime for b in backlog} | {c.tenant: c.vtime for c in chosen}
    served, there = Counter(c.tenant for c in chosen), Counter(b.tenant for b in backlog)
    for waiting in (tenant for tenant in there if served[tenant] < there[tenant]):
        for tenant in served:
            assert vtimes[tenant] - cost / weights[tenant] <= vtimes[waiting] + 1e-6


@pytest.mark.parametrize(("weights", "shares"), [((1, 1), (10, 10)), ((3, 1), (15, 5)), ((1, 4), (4, 16))])
def test_a_long_backlog_is_shared_by_weight(weights: tuple[int, int], shares: tuple[int, int]) -> None:
    backlog = [
        Candidate(request=f"{tenant}{n}", tenant=tenant, vtime=0.0, weight=weight)
        for tenant, weight in zip(("ann", "bob"), weights, strict=True)
        for n in range(30)
    ]
    served = Counter(c.tenant for c in choose([Slot(gang=f"g{n}", incarnation=1) for n in range(20)], backlog))
    assert (served["ann"], served["bob"]) == pytest.approx(shares, abs=1)


def test_who_got_less_before_comes_first() -> None:
    backlog = [
        Candidate(request="a", tenant="ann", vtime=5.0, weight=1.0),
        Candidate(request="b", tenant="bob", vtime=4.5, weight=1.0),
    ]
    (only,) = choose([Slot(gang="g", incarnation=3)], backlog)
    assert (only.request, only.vtime, only.slot.incarnation) == ("b", 5.5, 3)


# ------------------------------------------------------------------------------------------------------------- place

FULL = PoolLoad(idle=0, busy=2, starting=0, queued=0, max_gangs=2, run_s=10.0, cold_s=30.0)


@pytest.mark.parametrize(
    ("mode", "load", "path", "why"),
    [
        (Mode.BATCH, FULL, Placement.BATCH, "asked for"),
        (Mode.WARM, FULL, Placement.WARM, "asked for"),
        (Mode.AUTO, replace(FULL, max_gangs=0, busy=0), Placement.BATCH, "no warm gangs"),
        (Mode.AUTO, replace(FULL, max_gangs=0, idle=1), Placement.BATCH, "no warm gangs"),
        (Mode.AUTO, replace(FULL, idle=1), Placement.WARM, "a warm gang is idle"),
        (Mode.AUTO, replace(FULL, busy=1), Placement.WARM, "the pool may grow (1 of 2 gangs)"),
        (Mode.AUTO, replace(FULL, run_s=None), Placement.WARM, "no history"),
        (Mode.AUTO, replace(FULL, cold_s=None), Placement.WARM, "no history"),
        (Mode.AUTO, FULL, Placement.WARM, "predicted wait 5.0 s, predicted cold start 30.0 s"),
        (Mode.AUTO, replace(FULL, queued=20), Placement.BATCH, "predicted wait 105.0 s, predicted cold start 30.0 s"),
        (Mode.AUTO, replace(FULL, idle=1, queued=3, max_gangs=3), Placement.WARM, "waiting for a warm gang"),
    ],
)
def test_the_path_of_a_request_and_why(mode: Mode, load: PoolLoad, path: Placement, why: str) -> None:
    placed = place(mode, load)
    assert placed is not None
    assert placed.placement is path
    assert why in placed.reason


def test_warm_is_refused_where_no_gang_may_be_even_if_one_lives_on_from_a_larger_maximum() -> None:
    assert place(Mode.WARM, replace(FULL, max_gangs=0, busy=0)) is None
    assert place(Mode.WARM, replace(FULL, max_gangs=0)) is None


LOADS = st.builds(
    PoolLoad,
    idle=st.integers(0, 5),
    busy=st.integers(0, 5),
    starting=st.integers(0, 5),
    queued=st.integers(0, 50),
    max_gangs=st.integers(0, 10),
    run_s=st.none() | st.floats(0.1, 1000),
    cold_s=st.none() | st.floats(0.1, 1000),
)


@given(LOADS)
def test_auto_always_finds_a_path_and_says_why(load: PoolLoad) -> None:
    placed = place(Mode.AUTO, load)
    assert placed is not None and placed.reason


@given(LOADS, st.floats(0.1, 1000), st.floats(0.1, 1000))
def test_history_is_asked_for_whenever_it_would_change_the_path(load: PoolLoad, run_s: float, cold_s: float) -> None:
    blind, informed = (
        place(Mode.AUTO, replace(load, run_s=None)),
        place(Mode.AUTO, replace(load, run_s=run_s, cold_s=cold_s)),
    )
    assert blind is not None and informed is not None
    assert needs_history(load) or blind.placement is informed.placement


def test_idle_gangs_that_are_about_to_be_taken_cost_no_cold_start() -> None:
    crowded = PoolLoad(idle=4, busy=0, starting=0, queued=4, max_gangs=4, run_s=0.1, cold_s=10.0)
    assert predicted_wait(crowded) < 1
    placed = place(Mode.AUTO, crowded)
    assert placed is not None
    assert placed.placement == "warm"


@given(LOADS)
def test_the_predicted_wait_never_falls_when_more_wait(load: PoolLoad) -> None:
    assert predicted_wait(load) <= predicted_wait(replace(load, queued=load.queued + 1))


@pytest.mark.parametrize(("losses", "seconds"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (7, 32), (8, 60), (100, 60)])
def test_the_pause_between_tries_doubles_up_to_a_minute(losses: int, seconds: int) -> None:
    assert backoff(losses) == timedelta(seconds=seconds)
