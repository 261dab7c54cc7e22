"""The first page: what waits, what runs, what went wrong."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from orchestrator.api.office import Office
from orchestrator.store import tenants
from orchestrator.web.live import Boards
from orchestrator.web.rendering import base_of, fragment, page
from orchestrator.web.visiting import Guest, Here, Visitor

router = APIRouter()


@router.get("/")
async def overview(request: Request, here: Here, visitor: Guest) -> Response:
    return page(request, "overview.html", visitor, board=await _board(here, visitor, base_of(request)))


@router.get("/live/overview")
async def live(request: Request, here: Here, visitor: Guest) -> Response:
    boards: Boards = request.app.state.boards
    base = base_of(request)
    return boards.stream(request, visitor, "overview", lambda: _board(here, visitor, base))


async def _board(here: Office, visitor: Visitor, base: str) -> Markup:
    open_ = await here.look(lambda tx: tenants.open_by_state(tx, visitor.tenant))
    return fragment(base, visitor, "overview_board.html", open=open_)
