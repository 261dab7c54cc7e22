"""Group commit: calls of one kind that come while one is under way go to the database together in the next.

A commit costs a disk write, a statement its round trip, whatever is in them: a busy replica shares them, an idle one
waits for nothing. Lives on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from orchestrator.errors import Unavailable

A = TypeVar("A")
B = TypeVar("B")

MOST = 64
"""Calls in one group."""
MOST_WAITING = 2048
"""Calls that wait for their group: some seconds' worth. Those behind would have gone by the time it is their turn."""
PATIENCE_S = 0.05
"""How long a group may hold up those behind it: then they go beside it."""


class Grouping(Generic[A, B]):
    """Calls of one kind. `work` runs for one group at a time, as long as it is quick."""

    def __init__(self, work: Callable[[Sequence[A]], Awaitable[Sequence[B | Exception]]]) -> None:
        """`work` gives one answer for each call, in their order; what it raises is the answer to all of them."""
        self._work = work
        self._waiting: deque[tuple[A, asyncio.Future[B]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._impatience: asyncio.TimerHandle | None = None

    async def __call__(self, call: A) -> B:
        """The answer to one call; raises what its answer is if that is an exception."""
        if len(self._waiting) >= MOST_WAITING:
            raise Unavailable("more calls wait for the database than it serves in time; nothing was changed")
        answer: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if self._under_way:
            self._be_patient()
        else:
            self._go()
        return await answer

    def _be_patient(self) -> None:
        """Those who wait go at the latest then."""
        if self._impatience is None:
            self._impatience = asyncio.get_running_loop().call_later(PATIENCE_S, self._go)

    def _go(self) -> None:
        """Start a group of those who wait."""
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None
        if not self._waiting:
            return
        group = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
        task = asyncio.get_running_loop().create_task(self._run(group))
        self._under_way.add(task)
        task.add_done_callback(self._done)
        if self._waiting:  # more than a group
            self._be_patient()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._go()

    async def _run(self, group: list[tuple[A, asyncio.Future[B]]]) -> None:
        answers: Sequence[B | Exception]
        try:
            answers = await self._work([call for call, _ in group])
        except Exception as error:  # each caller deals with it
            answers = [error] * len(group)
        for (_, future), answer in zip(group, answers, strict=True):
            if future.done():  # the caller went away; what was done stays done
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
