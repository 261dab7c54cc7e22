"""How pods came: scheduling, image, start; in order and without overlap, whatever the clocks of a cluster say."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from orchestrator.domain.arrival import Arrival, now_in, to_first_line, ways
from orchestrator.domain.waterfall import Start, lanes, start_spans

ZERO = datetime(2026, 1, 31, 12, tzinfo=UTC)
OWN = {"import": 3.0, "rendezvous": 1.0}


def at(seconds: float) -> datetime:
    return ZERO + timedelta(seconds=seconds)


def arrival(scheduled: float | None = None, started: float | None = None, word: str = "") -> Arrival:
    moments = [at(one) if one is not None else None for one in (scheduled, started)]
    return Arrival(scheduled=moments[0], started=moments[1], word=word)


def start(**changes: object) -> Start:
    """Planned at 1, launched at 2, hello at 100, ready at 110."""
    usual: dict[str, object] = {
        "gang": "gng_a",
        "incarnation": 1,
        "planned": at(1),
        "launched": at(2),
        "hello": at(100),
        "ready": at(110),
        "phases": OWN,
    }
    return Start(**(usual | changes))  # type: ignore[arg-type]


def told(start: Start) -> list[tuple[str, float, float | None]]:
    return [(one.name, since(one.begin), None if one.end is None else since(one.end)) for one in start_spans(start)]


def since(moment: datetime) -> float:
    return round((moment - ZERO).total_seconds(), 3)


def test_a_cold_start_of_pods_tells_the_place_the_image_and_the_first_line_apart() -> None:
    assert told(start(arrival=arrival(60, 90, "pulled in 28 s"))) == [
        ("scheduling", 1, 60),
        ("image", 60, 90),
        ("start", 90, 96),
        ("import", 96, 99),
        ("rendezvous", 99, 100),
        ("load", 100, 110),
    ]
    (image,) = [span for span in start_spans(start(arrival=arrival(60, 90, "pulled in 28 s"))) if span.name == "image"]
    assert image.note == "pulled in 28 s"


@pytest.mark.parametrize(
    ("seen", "span"),
    [
        (arrival(), ("scheduling", 1, None)),
        (arrival(60), ("image", 60, None)),
        (arrival(60, 90), ("start", 90, None)),
    ],
)
def test_a_gang_on_its_way_says_the_part_that_it_is_in_and_what_holds_it_up(
    seen: Arrival, span: tuple[str, float, None]
) -> None:
    waits = start(hello=None, ready=None, phases={}, arrival=seen, says="unschedulable: no machine has room")
    assert told(waits)[-1] == span
    *_, last = start_spans(waits)
    assert last.note == "unschedulable: no machine has room"


@pytest.mark.parametrize(
    ("seen", "spans"),
    [
        (arrival(), [("scheduling", 1, 50)]),
        (arrival(40), [("scheduling", 1, 40), ("image", 40, 50)]),
        (arrival(40, 45), [("scheduling", 1, 40), ("image", 40, 45), ("start", 45, 50)]),
    ],
)
def test_a_start_that_was_given_up_ends_in_the_part_that_it_was_in(
    seen: Arrival, spans: list[tuple[str, float, float]]
) -> None:
    assert told(start(hello=None, ready=None, phases={}, over=at(50), arrival=seen)) == spans


def test_what_nobody_saw_is_not_guessed() -> None:
    assert told(start())[:2] == [("scheduling", 1, 2), ("pods", 2, 96)]
    assert told(start(brought="processes"))[:2] == [("scheduling", 1, 2), ("processes", 2, 96)]
    assert told(start(arrival=arrival(60)))[:2] == [("scheduling", 1, 60), ("pods", 60, 96)]
    assert told(start(arrival=arrival()))[:2] == [("scheduling", 1, 2), ("pods", 2, 96)]


def test_ranks_that_come_back_on_the_same_pods_have_no_scheduling_and_no_image() -> None:
    again = start(incarnation=2, planned=None, launched=at(50), arrival=arrival(10, 20))
    assert told(again)[0] == ("start", 50, 96)


def test_a_container_that_is_made_again_is_a_restart_and_a_pod_that_is_has_all_parts() -> None:
    made_again = start(incarnation=2, planned=None, launched=at(50), arrival=arrival(10, 70))
    assert told(made_again)[:2] == [("restart", 50, 70), ("start", 70, 96)]
    another_pod = start(incarnation=2, planned=None, launched=at(50), arrival=arrival(60, 70))
    assert told(another_pod)[:3] == [("scheduling", 50, 60), ("image", 60, 70), ("start", 70, 96)]


def test_no_clock_makes_spans_negative_or_lets_them_overlap() -> None:
    dice = random.Random(7)
    for _ in range(500):
        one, two, three, four = sorted(dice.uniform(0, 100) for _ in range(4))
        moments = arrival(*(dice.choice([None, dice.uniform(-500, 500)]) for _ in range(2)))
        planned = dice.choice([at(one), None])
        life = start(planned=planned, launched=at(two), hello=at(three), ready=at(four), arrival=moments)
        life = replace(life, phases={"import": dice.uniform(0, 60), "rendezvous": dice.uniform(0, 60)})
        spans = list(start_spans(life))
        assert all(span.end is not None and span.end > span.begin for span in spans)
        assert all(one.end is not None and one.end <= after.begin for one, after in pairwise(spans))
        assert spans[0].begin >= at(one) and spans[-1].end == at(four)
        (lane,) = lanes(at(one), at(200), [], [start(planned=planned, launched=at(two), arrival=moments)])
        assert all(span.end is None or span.end > span.begin for span in lane.spans)


def test_the_parts_of_a_start_in_seconds_are_all_that_was_before_the_first_line() -> None:
    came = to_first_line(at(2), arrival(60, 90), at(100), OWN)
    assert came == {"scheduling": 58.0, "image": 30.0, "start": 6.0}
    assert to_first_line(at(2), arrival(1, 1), at(100), OWN) == {"scheduling": 0.0, "image": 0.0, "start": 94.0}
    for unknown in (None, arrival(60), arrival()):
        assert to_first_line(at(2), unknown, at(100), OWN) == {"start": 94.0}


def test_a_gang_is_in_one_part_at_a_time() -> None:
    assert now_in(at(2), arrival(), again=False).name == "scheduling"
    assert now_in(at(50), arrival(10), again=True).name == "restart"
    assert list(ways(at(2), arrival(2, 2), at(2), reached=True, again=False)) == []
