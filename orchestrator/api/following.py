"""A stream of a request's events, resumable over any replica: its moves are numbered, and places in it have names.

What a reader has not seen is read from the event table, never from memory: nothing is lost or doubled by a restart.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from fastapi import Request

from orchestrator.api import looking, sse, views
from orchestrator.api.followers import HEARTBEAT_S, Vigil
from orchestrator.api.growing import Following
from orchestrator.api.hub import log_topic, request_topic
from orchestrator.api.office import Office
from orchestrator.api.sse import Frame, Place
from orchestrator.api.views import Json
from orchestrator.domain.access import Identity
from orchestrator.errors import NotFound, Unauthorized, Unavailable
from orchestrator.store import requests
from orchestrator.store.database import Tx

AGAIN_S = 1.0
"""How soon to look again while the database does not answer, or for logs that another replica took."""


@dataclass(frozen=True, kw_only=True)
class News:
    """What a request's stream consists of at one moment, written for all its readers."""

    version: int
    moves: tuple[Frame, ...]
    progress: tuple[str, bytes] | None
    """Its ETag, and the event. Progress is state: a reader gets the newest, and has missed nothing."""
    ending: tuple[Frame, ...]
    """Once it is terminal: its outputs, and `done`."""
    ended_s: float | None
    """For how long it has been terminal."""


async def news(here: Office, tenant: str, request_id: str) -> News:
    """The same answer to all who ask at the same time. Raises NotFound."""

    def look(tx: Tx) -> News:
        row = requests.get(tx, tenant, request_id)  # before its events: they may only know more
        answer, tag = looking.view(tx, row)
        moves = [views.event(event) for event in requests.events(tx, tenant, request_id)]
        return _written(answer, tag, moves, float(row.ended_s) if row.finished_at else None)

    return await here.sharing(("news", tenant, request_id), lambda: here.look(look))


def _written(answer: Json, tag: str, moves: list[Json], ended_s: float | None) -> News:
    frames = tuple(Frame(place=Place(seq=move["seq"]), body=_move(answer["id"], move)) for move in moves)
    progress = None
    if not answer["is_terminal"] and answer["progress"] is not None:
        progress = tag, sse.body("progress", {"id": answer["id"], "attempt": answer["attempt"], **answer["progress"]})
    ending = tuple(_ending(answer)) if answer["is_terminal"] else ()
    return News(version=answer["version"], moves=frames, progress=progress, ending=ending, ended_s=ended_s)


def _move(request_id: str, move: Json) -> bytes:
    return sse.body("status", {"id": request_id, "status": move["data"].get("state"), **move})


def _ending(answer: Json) -> Iterator[Frame]:
    """The last move's number with a second one: those who saw half of it get the other half."""
    seq, outputs = answer["version"], answer["outputs"]
    for number, output in enumerate(outputs, start=1):
        yield Frame(place=Place(seq=seq, nth=number), body=sse.body("output", {"id": answer["id"], **output}))
    done = {name: answer[name] for name in ("id", "status", "version", "reason")} | {"url": answer["urls"]["self"]}
    yield Frame(place=Place(seq=seq, nth=len(outputs) + 1), body=sse.body("done", done))


def is_over(found: News, place: Place) -> bool:
    """Whether whoever is at this place has seen everything that there will ever be."""
    return bool(found.ending) and place >= found.ending[-1].place


async def stream(
    here: Office, http: Request, identity: Identity, request_id: str, place: Place, logs: Following | None
) -> AsyncIterator[bytes]:
    """The events after `place`, until `done`, the end of the token, of the request's row or of this replica."""
    topics = [request_topic(request_id)] + ([log_topic(request_id)] if logs else [])
    with here.hub.waiter(*topics) as woken, here.watching(request_id):
        vigil, reader = Vigil(here, http, woken), _Reader(place, logs)
        yield sse.RECONNECT
        try:
            while not here.hub.closing:
                said, over = await _next(here, identity.tenant, request_id, reader)
                if said or vigil.too_silent:
                    yield said or sse.HEARTBEAT
                    vigil.spoke()
                    await vigil.check()
                if over:
                    return
                if logs and logs.behind:
                    continue
                await vigil.news(AGAIN_S if reader.impatient or logs else HEARTBEAT_S)
        except (NotFound, Unauthorized):
            return  # nothing more is to be told; whoever asks again is told why


class _Reader:
    """How far one reader is."""

    def __init__(self, place: Place, logs: Following | None) -> None:
        self.place, self.logs = place, logs
        self.progress = ""
        self.impatient = False
        """Something is still to come that nobody will wake us for."""

    def take(self, frames: tuple[Frame, ...]) -> Iterator[bytes]:
        """Those that were not seen; from here they were."""
        for frame in frames:
            if frame.place > self.place:
                self.place = frame.place
                yield frame.written(self.logs.cursor if self.logs else None)


async def _next(here: Office, tenant: str, request_id: str, reader: _Reader) -> tuple[bytes, bool]:
    """What this reader has not seen, and whether there will be nothing more."""
    reader.impatient = False
    said: list[bytes] = []
    try:
        found = await news(here, tenant, request_id)
        here.followed[request_id] = found.version
        said += reader.take(found.moves)
        if reader.logs is not None:
            for cursor, chunk in await reader.logs.more(here):
                said.append(sse.identified(f"{reader.place}~{cursor}", sse.body("log", {"id": request_id, **chunk})))
    except Unavailable:
        reader.impatient = True
        return b"".join(said), False
    if found.progress is not None and found.progress[0] != reader.progress:
        reader.progress = found.progress[0]
        said.append(found.progress[1])
    if found.ended_s is None:
        return b"".join(said), False
    if reader.logs is not None and (reader.logs.behind or not reader.logs.complete(found.ended_s)):
        reader.impatient = True
        return b"".join(said), False
    said += reader.take(found.ending)
    return b"".join(said), True
