"""One gang: what it does, its ranks, how it started, what it served, what its ranks wrote, and why it ended."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from orchestrator.api import catalog, cursors, loglines, views
from orchestrator.api.catalog import GangRef
from orchestrator.api.hub import gang_topic
from orchestrator.api.office import Office
from orchestrator.domain import advice, explaining
from orchestrator.domain.access import Permission
from orchestrator.store import explaining as facts
from orchestrator.store import fleet, gang_looks, logs
from orchestrator.store.database import Record, Tx
from orchestrator.store.listing import Place
from orchestrator.web.fleet.starts import stages
from orchestrator.web.frame import places
from orchestrator.web.frame.answers import said, saved
from orchestrator.web.frame.live import Boards
from orchestrator.web.frame.rendering import base_of, fragment, page
from orchestrator.web.frame.visiting import Guest, Here, Visitor

router = APIRouter()

SERVED = 20
RANKS_SHOWN = 64
LINES = 300
LINES_SAVED = 100_000
_EACH_OF_ALL = 60

Rank = Annotated[str, Query(pattern=r"^(all|\d{1,5})$")]
At = Annotated[str | None, Query(max_length=400)]


@router.get("/gangs/{gang}")
async def show(
    request: Request, gang: GangRef, here: Here, visitor: Guest, rank: Rank = "0", at: At = None
) -> Response:
    row = await here.look(lambda tx: gang_looks.get(tx, visitor.tenant, gang))
    base = base_of(request)
    return page(
        request,
        "gangs_one.html",
        visitor,
        gang=row,
        board=await _board(here, visitor, row.id, at, base),
        log=await _log(here, visitor, row.id, rank, base),
        rank=rank,
        at=urlencode({"at": at}) if at else "",
        lines=_lines(row),
    )


@router.get("/live/gangs/{gang}")
async def live(request: Request, gang: GangRef, here: Here, visitor: Guest, at: At = None) -> Response:
    boards: Boards = request.app.state.boards
    render = partial(_board, here, visitor, gang, at, base_of(request))
    return boards.stream(request, visitor, ("gang", gang, at), render, topics=(gang_topic(gang),))


@router.get("/live/gangs/{gang}/logs")
async def live_log(request: Request, gang: GangRef, here: Here, visitor: Guest, rank: Rank = "0") -> Response:
    boards: Boards = request.app.state.boards
    render = partial(_log, here, visitor, gang, rank, base_of(request))
    return boards.stream(request, visitor, ("gang-log", gang, rank), render)


@router.get("/gangs/{gang}/logs.txt")
async def download(gang: GangRef, here: Here, visitor: Guest) -> Response:
    """What all ranks wrote, its last lines, to be saved."""

    def work(tx: Tx) -> tuple[Record, Sequence[Record]]:
        row = gang_looks.get(tx, visitor.tenant, gang)
        return row, logs.of_gang(tx, row.id, None, loglines.needed(LINES_SAVED))

    row, chunks = await here.look(work)
    return saved(f"{row.id}.log", loglines.joined(chunks, LINES_SAVED, prefixed=True))


@router.post("/gangs/{gang}/drain")
async def drain(gang: GangRef, here: Here, visitor: Guest) -> Response:
    found = await catalog.drain_gang(gang, here, visitor.allow(Permission.MANAGE))
    if found["state"] == "gone":
        return said(f"{found['id']} is gone already", "bad", status=409)
    return said(f"{found['id']} finishes what it has, then it goes")


# ---------------------------------------------------------------------------------------------------------------- parts


async def _board(here: Office, visitor: Visitor, ref: str, at: str | None, base: str) -> Markup:
    """Raises NotFound; Invalid for a place that was not made here."""
    key, question = await here.secret("cursor"), f"served {ref}"
    before = datetime.fromisoformat(cursors.read(key, visitor.tenant, question, at).created_at) if at else None

    def work(tx: Tx) -> dict[str, Any]:
        row = gang_looks.get(tx, visitor.tenant, ref)
        return {
            "gang": row,
            "now": fleet.gang(tx, row.id),
            "explained": explaining.explain_gang(*facts.gang(tx, visitor.tenant, row.id)),
            "served": fleet.served(tx, visitor.tenant, row.id, before=before, limit=SERVED + 1),
        }

    found = await here.look(work)
    served = found.pop("served")
    older = None
    if len(served) > SERVED:
        place = Place(created_at=served[SERVED - 1].granted_at.isoformat(), id=found["gang"].id)
        older = urlencode({"at": cursors.write(key, visitor.tenant, question, place)})
    return fragment(
        base,
        visitor,
        "gangs_board.html",
        ranks=_ranks(found["gang"]),
        shown=RANKS_SHOWN,
        namespace=places.namespace(found["gang"].backend),
        stages=stages(found["now"]),
        served=served[:SERVED],
        older=older,
        at=at,
        advice=advice.of(found["explained"].cause.code) if found["explained"].cause else None,
        **found,
    )


def _ranks(row: Record) -> list[dict[str, Any]]:
    """What each rank said last. `behind`: steps that another rank is ahead."""
    told = views.gang(row)["ranks"]
    ages = {one["rank"]: one.get("age_s") for one in row.steps or []}
    most = max((one["step"] for one in told if one["step"] is not None), default=None)
    return [
        {
            **one,
            "age_s": ages.get(one["rank"]),
            "behind": most - one["step"] if most is not None and one["step"] is not None else 0,
        }
        for one in told
    ]


async def _log(here: Office, visitor: Visitor, ref: str, rank: str, base: str) -> Markup:
    """The last lines of a rank, or of the first ranks together. Raises NotFound."""

    def work(tx: Tx) -> tuple[Record, Sequence[Record]]:
        row = gang_looks.get(tx, visitor.tenant, ref)
        ranks = range(min(row.world, loglines.MOST_FOLLOWED)) if rank == "all" else [int(rank)]
        each = _EACH_OF_ALL if rank == "all" else LINES
        return row, logs.tails(tx, row.id, row.incarnation, ranks, each)

    row, chunks = await here.look(work)
    text = loglines.joined(chunks, LINES, prefixed=rank == "all")
    return fragment(base, visitor, "gangs_log.html", gang=row, text=text, rank=rank, most=LINES)


def _lines(row: Record) -> list[tuple[str, str]]:
    """The same from a terminal."""
    own = [("Its state and ranks", f"muster gang show {row.id}"), ("Its logs", f"muster gang logs {row.id} --rank all")]
    namespace = places.namespace(row.backend)
    if namespace is None:
        return own
    at, name = shlex.quote(namespace), shlex.quote(row.name)
    return [
        ("Its PyTorchJob", f"kubectl -n {at} get pytorchjob {name} -o yaml"),
        ("Its pods", f"kubectl -n {at} get pods -l training.kubeflow.org/job-name={name} -o wide"),
        *own,
    ]
