"""Gangs: those that live and those that are gone; one of them with its ranks, its start, its requests and its logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from markupsafe import Markup

from orchestrator.api import cursors
from orchestrator.api.office import Office
from orchestrator.domain.template import NAME
from orchestrator.store import fleet
from orchestrator.store.database import Record, Tx
from orchestrator.store.listing import Place
from orchestrator.web.frame.live import Boards
from orchestrator.web.frame.rendering import base_of, fragment, page
from orchestrator.web.frame.visiting import Guest, Here, Visitor

router = APIRouter()

PAGE = 50


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a list shows."""

    gone: bool
    template: str | None
    at: str | None
    """Where the page begins; None: with the newest."""

    def query(self, at: str | None) -> str:
        """The same list from another place on."""
        said = {"show": "gone" if self.gone else "live", "template": self.template, "at": at}
        return urlencode({name: value for name, value in said.items() if value})


def asked(
    show: Annotated[str, Query(pattern="^(live|gone)$")] = "live",
    template: Annotated[str | None, Query(pattern=f"{NAME}|^$")] = None,
    at: Annotated[str | None, Query(max_length=400)] = None,
) -> Asked:
    return Asked(gone=show == "gone", template=template or None, at=at or None)


Wanted = Annotated[Asked, Depends(asked)]


@router.get("/gangs")
async def gangs(request: Request, wanted: Wanted, here: Here, visitor: Guest) -> Response:
    board = await _list(here, visitor, wanted, base_of(request))
    names = await here.look(lambda tx: fleet.names(tx, visitor.tenant))
    return page(
        request, "gangs_list.html", visitor, asked=wanted, names=names, board=board, query=wanted.query(wanted.at)
    )


@router.get("/live/gangs")
async def live_gangs(request: Request, wanted: Wanted, here: Here, visitor: Guest) -> Response:
    boards: Boards = request.app.state.boards
    return boards.stream(request, visitor, ("gangs", wanted), partial(_list, here, visitor, wanted, base_of(request)))


async def _list(here: Office, visitor: Visitor, wanted: Asked, base: str) -> Markup:
    """Raises Invalid for a place that was not made here."""
    key, question = await here.secret("cursor"), f"gangs {wanted.gone} {wanted.template}"
    before = _place(key, visitor.tenant, question, wanted.at)

    def work(tx: Tx) -> tuple[dict[str, dict[str, int]], Sequence[Record]]:
        counts = {} if wanted.gone else fleet.counts(tx, visitor.tenant)
        found = fleet.page(
            tx, visitor.tenant, gone=wanted.gone, template=wanted.template, before=before, limit=PAGE + 1
        )
        return counts, found

    counts, found = await here.look(work)
    following = None
    if len(found) > PAGE:
        following = wanted.query(cursors.write(key, visitor.tenant, question, _after(found[PAGE - 1], wanted.gone)))
    return fragment(
        base,
        visitor,
        "gangs_list_board.html",
        asked=wanted,
        counts=_together(counts, wanted.template),
        gangs=found[:PAGE],
        following=following,
        start=wanted.query(None),
    )


def _place(key: bytes, tenant: str, question: str, at: str | None) -> tuple[str, str] | None:
    if at is None:
        return None
    place = cursors.read(key, tenant, question, at)
    return place.created_at, place.id


def _after(last: Record, gone: bool) -> Place:
    return Place(created_at=(last.gone_at if gone else last.planned_at).isoformat(), id=last.id)


def _together(counts: dict[str, dict[str, int]], template: str | None) -> dict[str, int]:
    total: dict[str, int] = {}
    for name, states in counts.items():
        for state, number in states.items() if template in (None, name) else ():
            total[state] = total.get(state, 0) + number
    return total
