"""Where the time of a request went: every moment of an attempt is in one span, and what is not known stays whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from orchestrator.domain.waterfall import Kind, Lane, Span, Start, Try, lanes

ZERO = datetime(2026, 1, 31, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return ZERO + timedelta(seconds=seconds)


def start(**changes: object) -> Start:
    """Planned at 1, launched at 2, hello at 10, ready at 16."""
    usual: dict[str, object] = {
        "gang": "gng_a",
        "incarnation": 1,
        "planned": at(1),
        "launched": at(2),
        "hello": at(10),
        "ready": at(16),
        "phases": {"import": 3.0, "rendezvous": 1.0, "preflight": 1.0, "setup": 3.0, "warmup": 2.0},
    }
    return Start(**(usual | changes))  # type: ignore[arg-type]


def attempt(**changes: object) -> Try:
    """Granted at 17, ran from 18 to 24, done."""
    usual: dict[str, object] = {
        "number": 1,
        "gang": "gng_a",
        "incarnation": 1,
        "granted": at(17),
        "began": at(18),
        "ended": at(24),
        "run_s": 6.0,
        "outcome": "succeeded",
    }
    return Try(**(usual | changes))  # type: ignore[arg-type]


def told(lane: Lane) -> list[tuple[str, float, float | None]]:
    return [(span.name, since(span.begin), None if span.end is None else since(span.end)) for span in lane.spans]


def since(moment: datetime) -> float:
    return round((moment - ZERO).total_seconds(), 3)


def test_a_cold_start_is_told_phase_by_phase() -> None:
    trail = (("run", at(18)), ("encode", at(18)), ("denoise", at(19)), ("publish", at(23)))
    (lane,) = lanes(ZERO, at(24), [attempt(trail=trail)], [start()])
    assert told(lane) == [
        ("queued", 0, 1),
        ("scheduling", 1, 2),
        ("pods", 2, 6),
        ("import", 6, 9),
        ("rendezvous", 9, 10),
        ("preflight", 10, 11),
        ("load", 11, 14),
        ("warm-up", 14, 16),
        ("queued", 16, 17),
        ("hand-over", 17, 18),
        ("encode", 18, 19),
        ("denoise", 19, 23),
        ("save", 23, 24),
    ]
    assert lane.spans[-1].kind is Kind.SAVE


def test_the_spans_of_a_lane_follow_each_other_without_gap_or_overlap() -> None:
    (lane,) = lanes(ZERO, at(24), [attempt()], [start()])
    assert all(one.end == following.begin for one, following in pairwise(lane.spans))
    assert (lane.spans[0].begin, lane.spans[-1].end) == (ZERO, at(24))


def test_a_gang_that_was_warm_is_no_part_of_the_wait() -> None:
    long_before = start(planned=at(-90), launched=at(-80), hello=at(-70), ready=at(-60))
    (lane,) = lanes(ZERO, at(3), [attempt(granted=at(1), ended=at(3), run_s=2.0)], [long_before])
    assert told(lane) == [("queued", 0, 1), ("run", 1, 3)]


def test_a_gang_that_started_before_the_request_counts_from_the_request_on() -> None:
    (lane,) = lanes(at(5), at(24), [attempt()], [start()])
    assert told(lane)[0] == ("pods", 5, 6)


def test_attempts_stand_one_below_the_other_and_each_waits_from_the_end_of_the_one_before() -> None:
    lost = attempt(number=1, granted=at(1), began=at(1), ended=at(4), run_s=3.0, outcome="lost")
    again = start(incarnation=2, planned=None, launched=at(4), hello=at(10), phases={})
    first, second = lanes(ZERO, at(24), [lost, attempt(number=2, incarnation=2)], [again])
    assert (first.outcome, second.outcome) == ("lost", "succeeded")
    assert told(second)[:3] == [("pods", 4, 10), ("load", 10, 16), ("queued", 16, 17)]


def test_a_request_that_waits_has_a_lane_that_goes_on() -> None:
    waiting = start(hello=None, ready=None, phases={}, says="Pending: no node has 8 free GPUs")
    (lane,) = lanes(ZERO, None, [], [waiting])
    assert told(lane) == [("queued", 0, 1), ("scheduling", 1, 2), ("pods", 2, None)]
    assert lane.spans[-1].note == "Pending: no node has 8 free GPUs"


def test_a_gang_that_loads_says_the_phase_that_it_is_in() -> None:
    (lane,) = lanes(ZERO, None, [], [start(ready=None, phases={}, starting=("setup", at(11)))])
    assert told(lane)[-2:] == [("load", 10, 11), ("load", 11, None)]


def test_a_request_that_nobody_ran_ends_with_its_wait() -> None:
    (lane,) = lanes(ZERO, at(9), [], [])
    assert told(lane) == [("queued", 0, 9)]
    assert lane.gang is None


def test_after_a_lost_attempt_the_next_wait_is_shown_while_it_lasts() -> None:
    lost = attempt(outcome="lost")
    _, waiting = lanes(ZERO, None, [lost], [start()])
    assert told(waiting) == [("queued", 24, None)]


def test_the_last_attempt_of_an_ended_request_is_the_last_lane() -> None:
    assert len(lanes(ZERO, at(24), [attempt(outcome="failed")], [start()])) == 1


def test_a_run_without_a_trail_begins_where_its_gang_says_not_where_the_first_beat_came() -> None:
    (lane,) = lanes(ZERO, at(24), [attempt(began=at(20))], [])
    assert told(lane)[-1] == ("run", 18, 24)


def test_what_runs_goes_on() -> None:
    (lane,) = lanes(ZERO, None, [attempt(ended=None, run_s=None, outcome=None)], [])
    assert told(lane)[-1] == ("run", 18, None)


def test_clocks_that_disagree_turn_nothing_round() -> None:
    wrong = attempt(trail=(("run", at(10)), ("denoise", at(40))))
    (lane,) = lanes(ZERO, at(24), [wrong], [start(phases={"import": 99.0, "setup": 99.0})])
    assert all(span.end is None or span.end >= span.begin for span in lane.spans)
    assert isinstance(lane.spans[0], Span)
