"""`/batches`: which there are, and one of them alive: its items, what came out, and what may be done about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from orchestrator.api import batch_items, batch_views, batches, views
from orchestrator.api.batch_common import BatchId, states_of
from orchestrator.api.batch_items import CustomId
from orchestrator.api.office import Office
from orchestrator.domain.access import Permission
from orchestrator.domain.states import BatchState, RequestState
from orchestrator.errors import Invalid
from orchestrator.store import batch_figures as figures
from orchestrator.store import items, templates
from orchestrator.store.database import Tx
from orchestrator.web.batches import shares
from orchestrator.web.frame.answers import said, went
from orchestrator.web.frame.live import Boards
from orchestrator.web.frame.rendering import HEADERS, base_of, fragment, page
from orchestrator.web.frame.visiting import Guest, Here, Visitor

router = APIRouter()

ON_A_PAGE = 25
ITEMS_ON_A_PAGE = 50
LOOK_EVERY_S = 1.5
Cursor = Annotated[str | None, Query(max_length=400)]
Status = Annotated[str, Query(max_length=20)]
Line = Annotated[int, Query(ge=0, le=999_999_999)]


@router.get("/batches")
async def shelf(request: Request, here: Here, visitor: Guest, status: Status = "", cursor: Cursor = None) -> Response:
    board = await _shelf(here, visitor, base_of(request), status, cursor)
    address = "" if cursor else "/live/batches" + _query(status=status)
    return page(request, "batches.html", visitor, board=board, live=address, states=list(BatchState), status_of=status)


@router.get("/live/batches")
async def live_shelf(request: Request, here: Here, visitor: Guest, status: Status = "") -> Response:
    boards: Boards = request.app.state.boards
    base, asked = base_of(request), _known(status, BatchState)

    async def render() -> Markup:
        return await _shelf(here, visitor, base, asked, None)

    return boards.stream(request, visitor, ("batches", asked), render, every_s=LOOK_EVERY_S)


async def _shelf(here: Office, visitor: Visitor, base: str, status: str, cursor: str | None) -> Markup:
    states = states_of(_known(status, BatchState), BatchState)
    try:
        found, following = await batches.listed(here, visitor.tenant, states, ON_A_PAGE, cursor)
    except Invalid:  # of a link that was kept for long, or changed by hand
        found, following = await batches.listed(here, visitor.tenant, states, ON_A_PAGE, None)
    more = _query(status=status, cursor=following) if following else ""
    shown = [batch_views.batch(one) for one in found]
    none = not shown and not status
    registered = none and bool(await here.look(lambda tx: templates.list_current(tx, visitor.tenant)))
    values = {"batches": shown, "shares": shares, "more": more, "status": status, "registered": registered}
    return fragment(base, visitor, "batches_shelf.html", **values)


@router.get("/batches/{batch_id}")
async def show(
    request: Request, batch_id: BatchId, here: Here, visitor: Guest, status: Status = "", after: Line = 0
) -> Response:
    board = await _board(here, visitor, base_of(request), batch_id, status, after)
    live = f"/live/batches/{batch_id}" + _query(status=status, after=after)
    return page(request, "batch.html", visitor, batch_id=batch_id, board=board, live=live)


@router.get("/live/batches/{batch_id}")
async def live(
    request: Request, batch_id: BatchId, here: Here, visitor: Guest, status: Status = "", after: Line = 0
) -> Response:
    boards: Boards = request.app.state.boards
    base, asked = base_of(request), _known(status, RequestState)

    async def render() -> Markup:
        return await _board(here, visitor, base, batch_id, asked, after)

    return boards.stream(request, visitor, ("batch", batch_id, asked, after), render, every_s=LOOK_EVERY_S)


async def _board(here: Office, visitor: Visitor, base: str, batch_id: str, status: str, after: int) -> Markup:
    asked = _known(status, RequestState)
    states = states_of(asked, RequestState)

    def work(tx: Tx) -> Any:
        shown = figures.get(tx, visitor.tenant, batch_id, batches.REFUSALS_SHOWN)
        return shown, items.page(tx, batch_id, states=states, after=after, limit=ITEMS_ON_A_PAGE + 1)

    shown, rows = await here.look(work)
    batch = batch_views.batch(shown)
    found = [{**views.request(row), "line": row.line} for row in rows[:ITEMS_ON_A_PAGE]]
    more = _query(status=asked, after=found[-1]["line"]) if len(rows) > ITEMS_ON_A_PAGE else ""
    return fragment(
        base,
        visitor,
        "batch_board.html",
        batch=batch,
        shares=shares,
        items=found,
        filters=_filters(batch["counts"]),
        status=asked,
        after=after,
        more=more,
    )


def _filters(counts: dict[str, int]) -> Sequence[tuple[str, str, int]]:
    """State, its name and how many there are; those on gangs are of several states."""
    named = [(state, state, counts[state]) for state in ("queued", "succeeded", "failed", "canceled", "expired")]
    return [("", "all", counts["total"]), *named]


@router.post("/batches/{batch_id}/cancel")
async def cancel(batch_id: BatchId, here: Here, visitor: Guest) -> Response:
    await batches.cancel(batch_id, here, visitor.allow(Permission.CANCEL))
    return said("Canceled: what runs is being told, what has succeeded stays.")


@router.post("/batches/{batch_id}/pause")
async def pause(batch_id: BatchId, here: Here, visitor: Guest) -> Response:
    await batches.pause(batch_id, here, visitor.allow(Permission.STEER))
    return said("Paused: what runs goes on, nothing else starts.")


@router.post("/batches/{batch_id}/resume")
async def resume(batch_id: BatchId, here: Here, visitor: Guest) -> Response:
    await batches.resume(batch_id, here, visitor.allow(Permission.STEER))
    return said("It goes on.")


@router.post("/batches/{batch_id}/delete")
async def delete(request: Request, batch_id: BatchId, here: Here, visitor: Guest) -> Response:
    await batches.delete(batch_id, here, visitor.allow(Permission.CANCEL))
    return went(request, "/batches")


@router.post("/batches/{batch_id}/items/{custom_id}/retry")
async def retry(batch_id: BatchId, custom_id: CustomId, here: Here, visitor: Guest) -> Response:
    await batch_items.retry_item(batch_id, custom_id, here, visitor.allow(Permission.SUBMIT))
    return said(f"{custom_id} is tried again.")


@router.get("/batches/{batch_id}/results.jsonl")
async def results(batch_id: BatchId, here: Here, visitor: Guest) -> Response:
    return _guarded(await batch_items.results(batch_id, here, visitor.identity))


@router.get("/batches/{batch_id}/errors.jsonl")
async def errors(batch_id: BatchId, here: Here, visitor: Guest) -> Response:
    return _guarded(await batch_items.errors_(batch_id, here, visitor.identity))


def _guarded(answer: Response) -> Response:
    answer.headers.update(HEADERS)
    return answer


def _known(status: str, words: type[BatchState] | type[RequestState]) -> str:
    """A state, or nothing: an address that somebody changed by hand shows all."""
    return status if status in set(words) else ""


def _query(**asked: Any) -> str:
    told = {name: value for name, value in asked.items() if value}
    return "?" + urlencode(told) if told else ""
