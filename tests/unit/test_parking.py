"""Parking: nothing that happens to a gang between its report and its next question is lost, and no stranger gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from orchestrator.api import parking
from orchestrator.api.hub import Hub, gang_topic
from orchestrator.api.parking import Parking

SESSION, GANG = b"session", "gng_1"


def on_a_loop(work: Callable[[Hub, Parking], Awaitable[None]]) -> None:
    async def main() -> None:
        hub = Hub()
        hub.open()
        known = Parking(hub)
        known.know(SESSION, GANG, 3)
        await work(hub, known)

    asyncio.run(main())


def test_a_wake_up_between_the_report_and_the_question_is_seen() -> None:
    async def work(hub: Hub, places: Parking) -> None:
        place = places.reserve(SESSION)
        assert place is not None and place.incarnation == 3
        places.keep(place)
        hub.wake([gang_topic(GANG)])
        await asyncio.sleep(0)
        taken = places.take(GANG, SESSION)
        assert taken is place and taken.waiter.is_set()
        places.leave(taken)
        assert places.take(GANG, SESSION) is None and hub.waiting("g:") == []

    on_a_loop(work)


def test_an_unknown_session_has_no_place() -> None:
    async def work(hub: Hub, places: Parking) -> None:
        assert places.reserve(b"other") is None and hub.waiting("g:") == []

    on_a_loop(work)


def test_a_place_is_for_the_session_that_left_it_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(hub: Hub, places: Parking) -> None:
        for session, away in ((b"another incarnation", parking.AWAY_S), (SESSION, -1.0)):
            monkeypatch.setattr(parking, "AWAY_S", away)
            place = places.reserve(SESSION)
            assert place is not None
            places.keep(place)
            assert places.take(GANG, session) is None and hub.waiting("g:") == []

    on_a_loop(work)


def test_a_second_report_takes_the_place_of_the_first() -> None:
    async def work(hub: Hub, places: Parking) -> None:
        first, second = places.reserve(SESSION), places.reserve(SESSION)
        assert first is not None and second is not None
        places.keep(first)
        places.keep(second)
        assert places.take(GANG, SESSION) is second
        places.leave(second)
        assert hub.waiting("g:") == []

    on_a_loop(work)
