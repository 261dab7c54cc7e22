"""The list of requests: filters in the address, pages to and fro, and the first page alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from orchestrator.api import cursors
from orchestrator.api.office import Office
from orchestrator.domain.placement import Mode
from orchestrator.domain.states import RequestState
from orchestrator.errors import Invalid
from orchestrator.store import listing, templates
from orchestrator.store.database import Record, Tx
from orchestrator.store.listing import Place
from orchestrator.web.frame.live import Boards
from orchestrator.web.frame.rendering import base_of, fragment, page
from orchestrator.web.frame.visiting import Guest, Here, Visitor
from orchestrator.web.requests import asked
from orchestrator.web.requests.asked import SPANS, Asked
from orchestrator.web.requests.glance import line

router = APIRouter()

ON_A_PAGE = 50
LOOK_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Turned:
    """Where in the list: behind a cursor towards older ones, before one towards newer ones, or on the first page."""

    older: str | None = None
    newer: str | None = None

    @property
    def is_first(self) -> bool:
        return self.older is None and self.newer is None


@router.get("/requests")
async def show(request: Request, here: Here, visitor: Guest) -> Response:
    question = Asked.of(request.query_params)
    turned = Turned(older=request.query_params.get("older"), newer=request.query_params.get("newer"))
    found = await _found(here, visitor, base_of(request), question, turned)
    pools = await here.look(lambda tx: templates.list_current(tx, visitor.tenant))
    answer = page(
        request,
        "requests.html",
        visitor,
        found=found,
        asked=question,
        states=list(RequestState),
        modes=list(Mode),
        spans=SPANS,
        templates=[pool.template for pool in pools],
        is_first=turned.is_first,
    )
    if request.headers.get("hx-request") and not request.headers.get("hx-boosted"):
        answer.headers["HX-Push-Url"] = f"{base_of(request)}/requests" + (
            f"?{question.query}" if question.query else ""
        )
    return answer


@router.get("/live/requests")
async def live(request: Request, here: Here, visitor: Guest) -> Response:
    """The first page for this question; the place of nobody who turned over."""
    boards: Boards = request.app.state.boards
    question, base = Asked.of(request.query_params), base_of(request)
    return boards.stream(
        request,
        visitor,
        ("requests", question),
        lambda: _found(here, visitor, base, question, Turned()),
        every_s=LOOK_EVERY_S,
    )


@dataclass(frozen=True, kw_only=True)
class Tickets:
    """Places in the list for one question of one tenant, as they stand in addresses."""

    key: bytes
    tenant: str
    question: str

    def place(self, ticket: str | None) -> Place | None:
        """None for one that was not given here: then the list begins anew."""
        try:
            return cursors.read(self.key, self.tenant, self.question, ticket) if ticket else None
        except Invalid:
            return None

    def of(self, row: Record) -> str:
        place = Place(created_at=row.created_at.isoformat(), id=row.id)
        return cursors.write(self.key, self.tenant, self.question, place)


async def _found(here: Office, visitor: Visitor, base: str, question: Asked, turned: Turned) -> Markup:
    shown: dict[str, Any] = {"asked": question, "lines": [], "older": None, "newer": None}
    if question.problem:
        return fragment(base, visitor, "requests_found.html", **shown)
    tickets = Tickets(key=await here.secret("cursor"), tenant=visitor.tenant, question=question.key)
    before, after = tickets.place(turned.older), tickets.place(turned.newer)
    rows, more = await here.look(lambda tx: _page(tx, visitor.tenant, question, before, after))
    if rows and (more or after):
        shown["older"] = tickets.of(rows[-1])
    if rows and (before or (after and more)):
        shown["newer"] = tickets.of(rows[0])
    return fragment(base, visitor, "requests_found.html", **shown | {"lines": [line(row) for row in rows]})


def _page(tx: Tx, tenant: str, question: Asked, before: Place | None, after: Place | None) -> tuple[list[Record], bool]:
    """The rows, newest first, and whether there are more on the way that was taken."""
    wanted = question.wanted(asked.now())
    rows: list[Any] = list(
        listing.brief(tx, tenant, wanted, place=after or before, newer=after is not None, limit=ON_A_PAGE + 1)
    )
    more = len(rows) > ON_A_PAGE
    if not more:
        return rows, False
    return (rows[1:] if after else rows[:-1]), True
