"""What unfinished bodies hold together is bounded, whoever sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator.api.larder import SMALL, Larder
from orchestrator.errors import Invalid, Unavailable

PIECE = b"x" * 50_000


class Sender:
    """A body whose pieces come when the test says so."""

    def __init__(self, larder: Larder, whose: str) -> None:
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.body = asyncio.ensure_future(larder.whole(self._parts(), 1 << 20, whose))

    async def _parts(self) -> AsyncIterator[bytes]:
        while (piece := await self.pieces.get()) is not None:
            yield piece

    async def send(self, *pieces: bytes | None) -> None:
        for piece in pieces:
            self.pieces.put_nowait(piece)
        while not self.pieces.empty():
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)


def test_nobody_holds_more_than_a_share_and_all_no_more_than_there_is() -> None:
    async def scene() -> None:
        larder = Larder(most=4 * len(PIECE))
        greedy, other, third = (Sender(larder, whose) for whose in ("a", "b", "c"))
        await greedy.send(PIECE, PIECE)
        again = Sender(larder, "a")
        await again.send(PIECE)
        with pytest.raises(Unavailable):
            again.body.result()
        await other.send(PIECE, PIECE)
        assert larder.held == larder.most
        await third.send(PIECE)
        with pytest.raises(Unavailable):
            third.body.result()
        await greedy.send(None)
        assert greedy.body.result() == PIECE + PIECE and larder.held == 2 * len(PIECE)
        other.body.cancel()
        await asyncio.gather(other.body, return_exceptions=True)
        assert larder.held == 0

    asyncio.run(scene())


def test_a_small_body_finds_room_where_there_is_none() -> None:
    async def scene() -> None:
        larder = Larder(most=0)
        small = Sender(larder, "a")
        await small.send(b"x" * SMALL, None)
        assert len(small.body.result()) == SMALL

    asyncio.run(scene())


def test_a_body_that_is_too_large_is_given_up_and_forgotten() -> None:
    async def scene() -> None:
        larder = Larder()
        sender = Sender(larder, "a")
        await sender.send(b"x" * (1 << 20), b"y")
        with pytest.raises(Invalid, match="larger than"):
            sender.body.result()
        assert larder.held == 0

    asyncio.run(scene())
