"""Looks that are shared: never older than the question, and no more than two for any number of askers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from orchestrator.api.sharing import Sharing


class World:
    """Something that changes, and a look at it that takes until it is let through."""

    def __init__(self) -> None:
        self.state, self.looks = 0, 0
        self.gate = asyncio.Event()

    async def look(self) -> int:
        self.looks += 1
        seen = self.state
        await self.gate.wait()
        return seen


def run(case: Callable[[Sharing, World], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(case(Sharing(), World()), 10)

    asyncio.run(main())


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_asks_while_a_look_is_under_way_gets_the_next_one_and_shares_it() -> None:
    async def case(sharing: Sharing, world: World) -> None:
        first = asyncio.create_task(sharing("a", world.look))
        await settled()
        world.state = 1
        others = [asyncio.create_task(sharing("a", world.look)) for _ in range(50)]
        await settled()
        assert world.looks == 1
        world.gate.set()
        assert await first == 0 and await asyncio.gather(*others) == [1] * 50
        assert world.looks == 2

    run(case)


def test_other_keys_are_other_looks() -> None:
    async def case(sharing: Sharing, world: World) -> None:
        world.gate.set()
        assert await asyncio.gather(sharing("a", world.look), sharing("b", world.look)) == [0, 0]
        assert world.looks == 2

    run(case)


def test_a_look_that_fails_fails_for_all_who_share_it_and_for_nobody_after() -> None:
    async def case(sharing: Sharing, world: World) -> None:
        async def broken() -> int:
            await world.gate.wait()
            raise ValueError("broken")

        asked = [asyncio.create_task(sharing("a", broken)) for _ in range(3)]
        await settled()
        world.gate.set()
        assert [type(one) for one in await asyncio.gather(*asked, return_exceptions=True)] == [ValueError] * 3
        assert await sharing("a", world.look) == 0

    run(case)


def test_an_asker_that_goes_away_takes_nobody_with_it() -> None:
    async def case(sharing: Sharing, world: World) -> None:
        first = asyncio.create_task(sharing("a", world.look))
        await settled()
        second, third = (asyncio.create_task(sharing("a", world.look)) for _ in range(2))
        await settled()
        first.cancel()
        second.cancel()
        world.gate.set()
        assert await third == 0
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not sharing._under_way and not sharing._next

    run(case)
