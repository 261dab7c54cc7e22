"""When a gang has served long enough, and how its pool replaces it without a gap."""

from datetime import timedelta

import pytest

from orchestrator.domain.pool_plan import GangView, PoolPlan, PoolView, plan_pool
from orchestrator.domain.recycling import Policy, Wear, Worn, worn

POLICY = Policy(max_age=timedelta(hours=1), max_requests=100, max_growth_bytes=1 << 30, max_failures=3)
TIRED, SPENT = Worn(why="served 100 requests", far=False), Worn(why="served 200 requests", far=True)


@pytest.mark.parametrize(
    ("wear", "why"),
    [
        (Wear(age=timedelta(hours=1)), "3600 s old"),
        (Wear(requests=100), "100 requests"),
        (Wear(growth_bytes=1 << 30), "1024 MiB"),
        (Wear(failures=3), "3 failures"),
    ],
)
def test_each_limit_alone_wears_a_gang_out(wear: Wear, why: str) -> None:
    verdict = worn(POLICY, wear)
    assert verdict is not None
    assert why in verdict.why
    assert not verdict.far
    assert worn(Policy(), wear) is None


def test_below_every_limit_a_gang_is_good_and_at_twice_one_it_is_far_gone() -> None:
    below = Wear(age=timedelta(minutes=59), requests=99, growth_bytes=(1 << 30) - 1, failures=2)
    assert worn(POLICY, below) is None
    assert worn(POLICY, Wear(requests=200)) == Worn(why="served 200 requests", far=True)


def gang(name: str, *, worn: Worn | None = None, busy: bool = False, starting: bool = False) -> GangView:
    return GangView(id=name, starting=starting, busy=busy, idle_for=timedelta(), worn=worn)


def plan(*gangs: GangView, min_gangs: int = 0, max_gangs: int = 1, queued: int = 0, held: bool = False) -> PoolPlan:
    return plan_pool(
        PoolView(
            queued=queued,
            min_gangs=min_gangs,
            max_gangs=max_gangs,
            idle_timeout=timedelta(hours=1),
            current=True,
            held=held,
            gangs=gangs,
        )
    )


def test_a_worn_gang_that_nobody_needs_just_goes() -> None:
    assert plan(gang("old", worn=TIRED)) == PoolPlan(recycle=("old",))


def test_a_needed_gang_is_kept_until_another_one_is_ready() -> None:
    old = gang("old", worn=TIRED)
    assert plan(old, min_gangs=1) == PoolPlan(launch=1)
    assert plan(old, gang("new", starting=True), min_gangs=1) == PoolPlan()
    assert plan(old, gang("new"), min_gangs=1) == PoolPlan(recycle=("old",))


def test_a_busy_worn_gang_is_drained_once_another_one_is_there() -> None:
    assert plan(gang("old", worn=TIRED, busy=True)) == PoolPlan(launch=1)
    assert plan(gang("old", worn=TIRED, busy=True), gang("new")) == PoolPlan(recycle=("old",))


def test_a_gang_far_gone_does_not_wait() -> None:
    assert plan(gang("old", worn=SPENT, busy=True)) == PoolPlan(launch=1, recycle=("old",))


def test_a_pool_goes_at_most_one_above_its_maximum() -> None:
    old = [gang(f"old-{n}", worn=TIRED, busy=True) for n in range(3)]
    assert plan(*old, max_gangs=3, queued=9).launch == 1
    assert plan(*old, gang("new", starting=True), max_gangs=3, queued=9).launch == 0


def test_a_held_pool_launches_nothing() -> None:
    assert plan(gang("old", worn=TIRED), min_gangs=1, held=True) == PoolPlan()
