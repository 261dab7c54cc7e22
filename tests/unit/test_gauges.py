"""Where the pieces of a drawing lie."""

from __future__ import annotations

from orchestrator.web.frame import gauges
from orchestrator.web.frame.gauges import WIDTH


def test_a_gauge_has_a_cell_for_each_place_and_a_stroke_at_the_minimum() -> None:
    drawn = gauges.gauge({"busy": 2, "idle": 1}, 1, 4)
    assert [piece.kind for piece in drawn.pieces] == ["busy", "busy", "idle", "free"]
    assert [piece.x for piece in drawn.pieces] == [0.0, 60.0, 120.0, 180.0]
    assert drawn.floor == 60.0
    assert drawn.label == "2 busy, 1 idle; at most 4, 1 kept at least"


def test_more_gangs_than_the_maximum_are_all_shown() -> None:
    drawn = gauges.gauge({"draining": 3}, 0, 0)
    assert [piece.kind for piece in drawn.pieces] == ["draining"] * 3
    assert drawn.floor is None


def test_a_pool_that_may_have_nothing_has_an_empty_place() -> None:
    assert gauges.gauge({}, 0, 0).label == "no gang; at most 0"
    assert gauges.gauge({}, 0, 2).label == "no gang; at most 2"


def test_of_many_places_each_state_is_one_piece() -> None:
    drawn = gauges.gauge({"busy": 50, "idle": 25}, 10, 100)
    assert [(piece.kind, piece.width) for piece in drawn.pieces] == [("busy", 120.0), ("idle", 60.0), ("free", 60.0)]


def test_no_piece_leaves_the_drawing_or_vanishes() -> None:
    for x, width in ((0.0, 0.0), (WIDTH, 0.0), (WIDTH - 0.1, 5.0), (0.0, 2 * WIDTH)):
        piece = gauges.placed(x, width, "k")
        assert piece.width >= 1
        assert 0 <= piece.x <= piece.x + piece.width <= WIDTH


def test_what_is_nothing_takes_no_room_in_a_stack() -> None:
    assert [piece.kind for piece in gauges.stack([("a", 3.0), ("b", 0.0), ("c", 1.0)], 4.0)] == ["a", "c"]
    assert gauges.stack([("a", 0.0)], 0.0) == []
