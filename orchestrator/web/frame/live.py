"""Pages that change while they are looked at: each is rendered once for all who see it, when it may have changed.

A board is the live part of one page. While somebody looks at it, one task renders it after each wake-up of its topics
(not more often than `PAUSE_S`) and at least every `every_s`; viewers are sent it when it is another text than before.
A viewer costs an entry and a task that waits; no thread and no connection to the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import suppress

from fastapi import Request

from orchestrator.api import sse
from orchestrator.api.followers import HEARTBEAT_S, Stream
from orchestrator.api.hub import wait_for
from orchestrator.api.office import Office
from orchestrator.errors import MusterError, NotFound, Unauthorized, Unavailable
from orchestrator.web.frame.visiting import Visitor, prefix_of

log = logging.getLogger("muster.web")

Render = Callable[[], Awaitable[str]]
PAUSE_S = 0.4
LATE_S = 6.0
GONE = b"event: gone\ndata: \n\n"
"""What was looked at is not there any more, or not for this viewer: the page loads itself anew to say so."""
OLD = b"event: old\ndata: \n\n"
"""The database is away: what is shown stays, and is not of now. The next news says that this is over."""


class Board:
    """The live part of one page, for as long as somebody looks at it."""

    def __init__(self, here: Office, topics: tuple[str, ...], every_s: float, render: Render) -> None:
        self._here, self._topics, self._every_s, self._render = here, topics, every_s, render
        self.viewers = 0
        self.event = b""
        self.gone = False
        self._changed = asyncio.Event()

    async def keep(self) -> None:
        """Render it again and again."""
        with self._here.hub.waiter(*self._topics) as woken:
            while not self._here.hub.closing:
                begun = time.monotonic()
                await self._look()
                if self.gone:
                    break
                await asyncio.sleep(max(0.0, PAUSE_S - (time.monotonic() - begun)))
                await wait_for(woken, self._every_s - PAUSE_S)
        self._tell()

    async def _look(self) -> None:
        try:
            event = written(await self._rendered())
        except NotFound:
            self.gone = True
        except MusterError:
            self._show(OLD)
        except Exception:
            log.exception("a defect in the live part of a page", extra={"action": "defect"})
        else:
            self._show(event)

    async def _rendered(self) -> str:
        """A database that hangs answers late or never: meanwhile the page says that it is not live."""
        rendering = asyncio.ensure_future(self._render())
        try:
            await asyncio.wait({rendering}, timeout=LATE_S)
            if not rendering.done():
                self._show(OLD)
            return await rendering
        finally:
            rendering.cancel()

    def _show(self, event: bytes) -> None:
        if event != self.event:
            self.event = event
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, seen: bytes, within_s: float) -> None:
        """Returns when it shows something else than `seen`, or after that time."""
        if self.event == seen and not self.gone:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), within_s)


class Boards:
    """Those that somebody looks at now. Lives on the event loop."""

    def __init__(self, here: Office) -> None:
        self._here = here
        self._boards: dict[Hashable, tuple[Board, asyncio.Task[None]]] = {}

    def stream(
        self,
        request: Request,
        visitor: Visitor,
        key: Hashable,
        render: Render,
        *,
        topics: tuple[str, ...] = (),
        every_s: float = 2.0,
    ) -> Stream:
        """The answer to a page's question for news. Equal keys must mean equal pages, for those who may do the same
        and came through the same door."""
        whole = (key, prefix_of(request), visitor.tenant, visitor.identity.permissions)
        parts = self._parts(request, whole, topics, every_s, render)
        return Stream(self._here, visitor.identity, parts, sse.MEDIA)

    async def _parts(
        self, request: Request, key: Hashable, topics: tuple[str, ...], every_s: float, render: Render
    ) -> AsyncIterator[bytes]:
        board = self._enter(key, topics, every_s, render)
        seen, asked = b"", time.monotonic()
        try:
            yield sse.RECONNECT
            while not self._here.hub.closing:
                await board.changed(seen, HEARTBEAT_S)
                if board.gone:
                    yield GONE
                    return
                yield sse.HEARTBEAT if board.event == seen else board.event
                seen = board.event
                if time.monotonic() - asked >= HEARTBEAT_S:
                    asked = time.monotonic()
                    with suppress(Unavailable):  # whoever cannot be asked now is shown nothing new either
                        await self._here.sharing(("credential", request.state.credential), request.state.ask_again)
        except Unauthorized:
            yield GONE
        finally:
            self._leave(key)

    def _enter(self, key: Hashable, topics: tuple[str, ...], every_s: float, render: Render) -> Board:
        if key not in self._boards:
            board = Board(self._here, topics, every_s, render)
            self._boards[key] = (board, asyncio.get_running_loop().create_task(board.keep()))
        board = self._boards[key][0]
        board.viewers += 1
        return board

    def _leave(self, key: Hashable) -> None:
        board, task = self._boards[key]
        board.viewers -= 1
        if not board.viewers:
            task.cancel()
            del self._boards[key]


def written(html: str) -> bytes:
    """As a server-sent event `news`."""
    lines = b"".join(b"data: " + line.encode() + b"\n" for line in html.split("\n"))
    return b"event: news\n" + lines + b"\n"
