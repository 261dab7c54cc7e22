"""The axis of a request's attempts: even, unless a wait would leave no room for the rest."""

from __future__ import annotations

import pytest

from orchestrator.web.requests.axis import axis

HOUR = 3600.0


def test_an_axis_without_a_long_wait_is_even() -> None:
    even = axis(100, [(0, 40), (60, 80)])
    assert [even.share(at) for at in (0, 25, 50, 100)] == [0, 0.25, 0.5, 1]
    assert [even.moment(part / 4) for part in range(5)] == [0, 25, 50, 75, 100]


def test_a_wait_of_twelve_hours_leaves_most_of_the_axis_to_the_minutes_after_it() -> None:
    uneven = axis(12 * HOUR + 120, [(0, 12 * HOUR)])
    assert uneven.share(12 * HOUR) == pytest.approx(0.3)
    assert uneven.share(12 * HOUR + 60) == pytest.approx(0.65)
    assert (uneven.share(0), uneven.share(12 * HOUR + 120)) == (0, pytest.approx(1))


def test_waits_share_what_they_get_by_their_length_and_nothing_changes_its_order() -> None:
    uneven = axis(10 * HOUR, [(0, 6 * HOUR), (6 * HOUR + 60, 9 * HOUR + 60), (9 * HOUR + 100, 9 * HOUR + 110)])
    assert len(uneven.cuts) == 2
    first = uneven.share(6 * HOUR)
    second = uneven.share(9 * HOUR + 60) - uneven.share(6 * HOUR + 60)
    assert first == pytest.approx(2 * second)
    shares = [uneven.share(at) for at in range(0, 36001, 100)]
    assert shares == sorted(shares)


def test_what_lies_at_a_mark_is_drawn_there() -> None:
    uneven = axis(12 * HOUR + 120, [(0, 12 * HOUR)])
    for part in range(5):
        assert uneven.share(uneven.moment(part / 4)) == pytest.approx(part / 4)


def test_a_request_that_only_waited_is_drawn_evenly() -> None:
    assert axis(12 * HOUR, [(0, 12 * HOUR)]).cuts == ()
