"""The hub: who waits is woken, a wake-up before the wait is not lost, a close answers everybody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

from orchestrator.api.hub import Hub, gang_topic, request_topic, wait_for

LONG = 30.0


def on_a_loop(work: Callable[[Hub], Awaitable[None]]) -> None:
    async def main() -> None:
        hub = Hub()
        hub.open()
        await work(hub)

    asyncio.run(main())


def test_a_wake_up_between_registering_and_waiting_is_not_lost() -> None:
    async def work(hub: Hub) -> None:
        with hub.waiter("g:1") as woken:
            hub.wake(["g:1"])
            assert await wait_for(woken, LONG)

    on_a_loop(work)


def test_a_wake_up_from_another_thread_arrives() -> None:
    async def work(hub: Hub) -> None:
        with hub.waiter("g:1") as woken:
            threading.Thread(target=hub.wake, args=(["g:1"],)).start()
            assert await wait_for(woken, LONG)

    on_a_loop(work)


def test_only_those_of_the_topic_are_woken_and_all_of_them() -> None:
    async def work(hub: Hub) -> None:
        with hub.waiter("g:1") as first, hub.waiter("g:1") as second, hub.waiter("g:2") as other:
            hub.wake(["g:1", "g:unknown"])
            assert await wait_for(first, LONG) and await wait_for(second, LONG)
            assert not await wait_for(other, 0.01)

    on_a_loop(work)


def test_a_wake_up_is_used_up_by_one_wait() -> None:
    async def work(hub: Hub) -> None:
        with hub.waiter("g:1") as woken:
            hub.wake(["g:1"])
            assert await wait_for(woken, LONG)
            assert not await wait_for(woken, 0.01)

    on_a_loop(work)


def test_after_a_lost_connection_everybody_looks() -> None:
    async def work(hub: Hub) -> None:
        with hub.waiter("g:1") as first, hub.waiter("r:2") as second:
            hub.wake_all()
            assert await wait_for(first, LONG) and await wait_for(second, LONG)

    on_a_loop(work)


def test_a_close_answers_everybody_who_waits() -> None:
    async def work(hub: Hub) -> None:
        with hub.waiter("g:1") as woken:
            hub.close()
            assert hub.closing
            assert await wait_for(woken, LONG)

    on_a_loop(work)


def test_who_left_is_not_waited_for() -> None:
    async def work(hub: Hub) -> None:
        with hub.waiter(gang_topic("1")), hub.waiter(request_topic("2")):
            assert (hub.waiting("g:"), hub.waiting("r:")) == (["1"], ["2"])
        assert hub.waiting("g:") == hub.waiting("r:") == []

    on_a_loop(work)


def test_a_hub_whose_loop_is_over_or_never_was_may_still_be_woken() -> None:
    hub = Hub()
    hub.wake(["g:1"])

    async def main() -> None:
        hub.open()

    asyncio.run(main())
    hub.wake(["g:1"])
    hub.wake_all()
