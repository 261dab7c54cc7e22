"""What is decided about a batch, and who gets the next gang."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from orchestrator.domain.batches import (
    BatchView,
    Close,
    Counts,
    End,
    Pause,
    Want,
    decide,
    eta_s,
    most_failed,
    outcome,
    share,
)
from orchestrator.domain.states import BatchOutcome, BatchReason, BatchState

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def counts(**changes: int) -> Counts:
    return Counts(**({"items": 10, "leased": 0, "succeeded": 0, "failed": 0, "canceled": 0, "expired": 0} | changes))


def view(**changes: Any) -> BatchView:
    values: dict[str, Any] = {
        "state": BatchState.RUNNING,
        "ending": None,
        "counts": counts(),
        "max_failed": None,
        "stops": True,
        "forgiven": 0,
        "too_late": False,
    }
    return BatchView(**(values | changes))


def test_a_batch_with_open_items_goes_on() -> None:
    assert decide(view(counts=counts(succeeded=9))) is None


def test_a_batch_is_completed_when_its_last_item_is_over() -> None:
    assert decide(view(counts=counts(succeeded=9, failed=1))) == End(ending=BatchState.COMPLETED, reason=None, why=None)


def test_a_batch_that_is_done_in_time_is_completed_though_its_deadline_passed_since() -> None:
    step = decide(view(counts=counts(succeeded=10), too_late=True))
    assert isinstance(step, End) and step.ending is BatchState.COMPLETED


@pytest.mark.parametrize("state", [BatchState.VALIDATING, BatchState.QUEUED, BatchState.RUNNING, BatchState.PAUSED])
def test_a_deadline_ends_what_is_not_done(state: BatchState) -> None:
    step = decide(view(state=state, too_late=True))
    assert isinstance(step, End) and (step.ending, step.reason) == (BatchState.EXPIRED, BatchReason.DEADLINE)


def test_a_batch_stops_when_more_items_failed_than_may() -> None:
    assert decide(view(counts=counts(failed=2), max_failed="2")) is None
    step = decide(view(counts=counts(failed=3), max_failed="2"))
    assert isinstance(step, End) and (step.ending, step.reason) == (BatchState.FAILED, BatchReason.MAX_FAILED)


def test_a_batch_that_pauses_instead_is_not_paused_twice_for_the_same_failures() -> None:
    tripped = view(counts=counts(failed=3), max_failed="20%", stops=False)
    assert isinstance(decide(tripped), Pause)
    resumed = view(counts=counts(failed=3), max_failed="20%", stops=False, forgiven=3)
    assert decide(resumed) is None


def test_a_batch_that_is_ending_waits_for_what_runs() -> None:
    ending = view(state=BatchState.FINALIZING, ending=BatchState.CANCELED, counts=counts(canceled=9, leased=1))
    assert decide(ending) is None
    over = view(state=BatchState.FINALIZING, ending=BatchState.CANCELED, counts=counts(canceled=10))
    assert decide(over) == Close(state=BatchState.CANCELED)


@pytest.mark.parametrize(("said", "items", "most"), [("0", 10, 0), ("7", 10, 7), ("10%", 25, 2), ("0%", 10, 0)])
def test_a_bound_on_failures_is_a_number_or_a_share(said: str, items: int, most: int) -> None:
    assert most_failed(said, items) == most


@pytest.mark.parametrize("said", ["", "-1", "ten", "10 %", "1.5", "%"])
def test_a_bound_on_failures_is_nothing_else(said: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        most_failed(said, 10)


@pytest.mark.parametrize(
    ("ended", "word"),
    [
        (counts(succeeded=10), BatchOutcome.ALL_SUCCEEDED),
        (counts(succeeded=10, refused=1), BatchOutcome.PARTIAL),
        (counts(succeeded=1, canceled=9), BatchOutcome.PARTIAL),
        (counts(failed=10), BatchOutcome.NONE_SUCCEEDED),
    ],
)
def test_an_outcome_says_what_completed_does_not(ended: Counts, word: BatchOutcome) -> None:
    assert outcome(ended) is word


def test_what_is_left_takes_as_long_as_what_ended_lately() -> None:
    assert eta_s(counts(succeeded=4), recent=2, seconds=10) == 30
    assert eta_s(counts(succeeded=10), recent=2, seconds=10) is None
    assert eta_s(counts(), recent=0, seconds=10) is None


def want(key: str, *, late_s: float = 0, gangs: int = 0, most: int = 1) -> Want:
    return Want(id=key, due_at=NOW + timedelta(seconds=late_s), gangs=gangs, most=most)


def test_everybody_gets_a_first_gang_before_anybody_gets_a_second() -> None:
    first, second = want("first", most=8), want("second", late_s=60, most=8)
    assert share(5, [first, second, want("alone", late_s=120)]) == ["first", "second", "alone", "first", "second"]


def test_who_has_gangs_already_waits_for_who_has_none() -> None:
    assert share(1, [want("old", gangs=1, most=8), want("new", late_s=60)]) == ["new"]


@given(room=some.integers(0, 20), sizes=some.lists(some.tuples(some.integers(0, 5), some.integers(0, 8)), max_size=6))
def test_no_room_is_left_that_somebody_wants_and_nobody_gets_more_than_he_may(
    room: int, sizes: list[tuple[int, int]]
) -> None:
    wants = [want(f"b{n}", late_s=n, gangs=has, most=most) for n, (has, most) in enumerate(sizes)]
    served = share(room, wants)
    assert len(served) == min(room, sum(max(0, one.most - one.gangs) for one in wants))
    assert all(one.gangs + served.count(one.id) <= max(one.most, one.gangs) for one in wants)
