"""Looks that many want at once: one runs for all of them. Lives on the event loop.

Five hundred who follow one request are woken by one beat; the database is asked once, not five hundred times. A look
that is under way may have begun before what woke the caller, so nobody joins it: all who come meanwhile share the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

V = TypeVar("V")
Look = Callable[[], Awaitable[Any]]


class Sharing:
    """At most one look under way for each key, and at most one that waits for it."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[None]] = {}
        self._next: dict[Hashable, tuple[asyncio.Future[Any], Look]] = {}

    async def __call__(self, key: Hashable, look: Callable[[], Awaitable[V]]) -> V:
        """What a look says that begins from now on. Equal keys must mean equal looks."""
        if key in self._next:
            future = self._next[key][0]
        else:
            future = asyncio.get_running_loop().create_future()
            if key in self._under_way:
                self._next[key] = (future, look)
            else:
                self._begin(key, future, look)
        answer: V = await asyncio.shield(future)
        return answer

    def _begin(self, key: Hashable, future: asyncio.Future[Any], look: Look) -> None:
        self._under_way[key] = asyncio.get_running_loop().create_task(self._run(key, future, look))

    async def _run(self, key: Hashable, future: asyncio.Future[Any], look: Look) -> None:
        try:
            future.set_result(await look())
        except Exception as error:  # each caller deals with it
            future.set_exception(error)
            future.exception()  # nobody may be left who asks
        finally:
            del self._under_way[key]
            if key in self._next:
                self._begin(key, *self._next.pop(key))
