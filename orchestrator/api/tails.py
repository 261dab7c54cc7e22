"""/v1/requests/{id}/logs: what the ranks wrote, and what they go on writing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response

from orchestrator.api import following, growing, loglines, sse
from orchestrator.api.auth import GuardedRoute, Here, Reader
from orchestrator.api.contract import Answer, operation
from orchestrator.api.events import LastEventId
from orchestrator.api.followers import Stream, Vigil
from orchestrator.api.following import AGAIN_S
from orchestrator.api.growing import Chunk, Following
from orchestrator.api.hub import log_topic, request_topic
from orchestrator.api.office import Office
from orchestrator.api.parameters import Ranks, RequestId, Tail
from orchestrator.api.sse import Place
from orchestrator.domain.access import Identity
from orchestrator.errors import MusterError, NotFound, Unauthorized, Unavailable
from orchestrator.store import logs, requests
from orchestrator.store.database import Record, Tx

router = APIRouter(prefix="/v1/requests", tags=["requests"], route_class=GuardedRoute)

Since = Annotated[
    str | None, Query(max_length=40, description="`5m`, `2h`, `1d`, or RFC 3339 with a zone, by the pods' clocks")
]


@router.get(
    "/{request_id}/logs",
    summary="What the ranks wrote",
    response_class=PlainTextResponse,
    **operation(
        "read_request_logs",
        "not_found",
        "purged",
        "bad_event_id",
        "too_many_waits",
        ok={
            200: Answer(means="lines; with `Accept: text/event-stream` as they come", media=("text/plain", sse.MEDIA)),
            204: Answer(means="a stream that was read to its end: do not come back"),
        },
    ),
)
async def read_logs(
    request_id: RequestId,
    http: Request,
    here: Here,
    identity: Reader,
    rank: Ranks = "0",
    tail: Tail = 1000,
    since: Since = None,
    follow: Annotated[bool, Query(description="go on until the request has ended and its logs are here")] = False,
    last_event_id: LastEventId = None,
) -> Response:
    """A stream of events follows always, and goes on where Last-Event-ID says."""
    from_moment, prefixed = growing.begins(since), rank == "all" or "," in rank
    if sse.wanted(http.headers.get("accept")):
        return await as_events(request_id, http, here, identity, rank, tail, last_event_id, since=from_moment)
    if follow:
        reader = Following(request_id=request_id, ranks=loglines.followed(rank), since=from_moment, known={})
        first = await _begin(here, identity, reader, tail, None)
        return Stream(here, identity, _text(here, http, identity, reader, first, prefixed), "text/plain")

    chunks = await written(here, identity, request_id, rank, tail, from_moment)
    return PlainTextResponse(loglines.joined(chunks, tail, prefixed=prefixed))


async def as_events(
    request_id: str,
    http: Request,
    here: Office,
    identity: Identity,
    rank: str,
    tail: int,
    last_event_id: str | None,
    *,
    since: float | None = None,
) -> Response:
    """The last lines and what comes, as a stream of `log` events and `done`. Raises NotFound, Invalid."""
    place, seen = sse.last_seen(last_event_id)
    if place >= _OVER:
        return Response(status_code=204)
    reader = Following(request_id=request_id, ranks=loglines.followed(rank), since=since, known={})
    first = await _begin(here, identity, reader, tail, seen)
    return Stream(here, identity, _events(here, http, identity, reader, first), sse.MEDIA)


async def written(
    here: Office, identity: Identity, request_id: str, rank: str, tail: int, since: float | None = None
) -> Sequence[Record]:
    """The chunks that hold the last lines. Raises NotFound."""

    def work(tx: Tx) -> Sequence[Record]:
        requests.peek(tx, identity.tenant, request_id)
        return logs.of_request(tx, request_id, loglines.ranks(rank), loglines.needed(tail), since)

    return await here.look(work)


async def _begin(here: Office, identity: Identity, reader: Following, tail: int, seen: str | None) -> list[Chunk]:
    """The last lines of before, or none for a reader who comes back. Raises NotFound."""

    def work(tx: Tx) -> list[Chunk]:
        requests.peek(tx, identity.tenant, reader.request_id)
        if seen is not None:
            reader.resume(seen)
            return []
        ends = logs.ends(tx, reader.request_id, reader.ranks)
        chunks = logs.of_request(tx, reader.request_id, reader.ranks, loglines.needed(tail), reader.since)
        lives = logs.lives(tx, reader.request_id)
        return [*reader.begin(loglines.newest(chunks, tail), lives, ends)]

    return await here.look(work)


_OVER = Place(seq=1)
"""In a stream of logs alone: after `done`."""


async def _text(
    here: Office, http: Request, identity: Identity, reader: Following, first: list[Chunk], prefixed: bool
) -> AsyncIterator[bytes]:
    if first:
        yield _lines(first, prefixed)
    async for chunks in grow(here, http, identity, reader):
        if chunks:
            yield _lines(chunks, prefixed)


def _lines(chunks: list[Chunk], prefixed: bool) -> bytes:
    return "".join(loglines.lines(chunk["rank"], chunk["text"], prefixed=prefixed) for _, chunk in chunks).encode()


async def _events(
    here: Office, http: Request, identity: Identity, reader: Following, first: list[Chunk]
) -> AsyncIterator[bytes]:
    yield sse.RECONNECT + _written(first)
    async for chunks in grow(here, http, identity, reader):
        yield _written(chunks) or sse.HEARTBEAT
    if not here.hub.closing and not await _is_open(here, identity, reader.request_id):
        yield sse.identified(f"{_OVER}~{reader.cursor}", sse.body("done", {"id": reader.request_id}))


def _written(chunks: list[Chunk]) -> bytes:
    return b"".join(sse.identified(f"{Place()}~{cursor}", sse.body("log", chunk)) for cursor, chunk in chunks)


async def grow(here: Office, http: Request, identity: Identity, reader: Following) -> AsyncIterator[list[Chunk]]:
    """What comes, each chunk with the reader's place after it; an empty list when nothing came for long.

    Ends when the request has ended and its logs are here, with the token, the request's row, or this replica.
    """
    with here.hub.waiter(request_topic(reader.request_id), log_topic(reader.request_id)) as woken:
        vigil = Vigil(here, http, woken)
        try:
            while not here.hub.closing:
                chunks: list[Chunk] = []
                ended_s = None
                with suppress(Unavailable):
                    ended_s = (await following.news(here, identity.tenant, reader.request_id)).ended_s
                    chunks = await reader.more(here)
                if chunks or vigil.too_silent:
                    yield chunks
                    vigil.spoke()
                    await vigil.check()
                if reader.behind:
                    continue
                if ended_s is not None and reader.complete(ended_s):
                    return
                await vigil.news(AGAIN_S)
        except (NotFound, Unauthorized):
            return


async def _is_open(here: Office, identity: Identity, request_id: str) -> bool:
    try:
        return (await following.news(here, identity.tenant, request_id)).ended_s is None
    except MusterError:
        return True
