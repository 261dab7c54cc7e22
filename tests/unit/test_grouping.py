"""Group commit: who comes meanwhile shares the next group, gets its own answer, and waits for no slow one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from orchestrator.api import grouping
from orchestrator.api.grouping import Grouping

LONG = 30.0


class Works:
    """Doubles each number, group by group, when it may; negative ones fail."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.free = asyncio.Event()
        self.grouping: Grouping[int, int] = Grouping(self.work)

    async def work(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(numbers))
        await self.free.wait()
        if 1313 in numbers:
            raise RuntimeError("the whole group fails")
        return [ValueError(number) if number < 0 else 2 * number for number in numbers]

    def call(self, number: int) -> asyncio.Task[int]:
        return asyncio.create_task(self.grouping(number))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_comes_alone_goes_alone_and_those_that_come_meanwhile_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "PATIENCE_S", LONG)

    async def main() -> None:
        works = Works()
        calls = [works.call(1)]
        await settle()
        calls += [works.call(number) for number in (2, 3, 4)]
        await settle()
        assert works.groups == [[1]]
        works.free.set()
        assert await asyncio.gather(*calls) == [2, 4, 6, 8]
        assert works.groups == [[1], [2, 3, 4]]

    asyncio.run(main())


def test_each_gets_its_own_answer_and_what_breaks_a_group_is_told_to_all_of_it() -> None:
    async def main() -> None:
        works = Works()
        works.free.set()
        first = await asyncio.gather(*[works.call(n) for n in (1, -5, 2)], return_exceptions=True)
        assert (first[0], first[2]) == (2, 4) and isinstance(first[1], ValueError)
        second = await asyncio.gather(works.call(1313), works.call(2), return_exceptions=True)
        assert isinstance(second[0], RuntimeError)
        assert await works.call(3) == 6

    asyncio.run(main())


def test_a_slow_group_holds_up_nobody_for_long() -> None:
    async def main() -> None:
        works = Works()
        slow = works.call(1)
        await settle()
        behind = [works.call(2), works.call(3)]
        async with asyncio.timeout(LONG):
            while len(works.groups) < 2:
                await asyncio.sleep(0.01)
        assert works.groups == [[1], [2, 3]] and not slow.done()
        works.free.set()
        assert await asyncio.gather(slow, *behind) == [2, 4, 6]

    asyncio.run(main())


def test_nor_do_those_who_did_not_fit_into_it_wait_for_long() -> None:
    async def main() -> None:
        works = Works()
        first = works.call(0)
        await settle()
        calls = [works.call(n) for n in range(1, grouping.MOST + 2)]
        async with asyncio.timeout(LONG):
            while len(works.groups) < 3:
                await asyncio.sleep(0.01)
        works.free.set()
        await asyncio.gather(first, *calls)
        assert [len(group) for group in works.groups] == [1, grouping.MOST, 1]

    asyncio.run(main())


def test_a_caller_that_goes_away_changes_nothing_for_the_others() -> None:
    async def main() -> None:
        works = Works()
        gone, stays = works.call(1), works.call(2)
        await settle()
        gone.cancel()
        works.free.set()
        assert await stays == 4 and gone.cancelled() and await works.call(3) == 6

    asyncio.run(main())


def test_a_group_is_no_larger_than_it_may_be() -> None:
    async def main() -> None:
        works = Works()
        first = works.call(0)
        await settle()
        calls = [works.call(n) for n in range(1, grouping.MOST + 11)]
        works.free.set()
        await asyncio.gather(first, *calls)
        assert [len(group) for group in works.groups] == [1, grouping.MOST, 10]

    asyncio.run(main())
