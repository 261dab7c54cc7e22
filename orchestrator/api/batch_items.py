"""/v1/batches/{id}/…: items, one by one or as the files that come out of a batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, StreamingResponse

from orchestrator.api import batch_shapes as shapes
from orchestrator.api import batch_views as views
from orchestrator.api import shapes as request_shapes
from orchestrator.api import views as request_views
from orchestrator.api.auth import GuardedRoute, Here, Reader, Submitter
from orchestrator.api.batch_checks import NAME
from orchestrator.api.batch_common import BatchId, look, open_again, states_of
from orchestrator.api.contract import Answer, operation
from orchestrator.api.office import Office
from orchestrator.domain.states import TERMINAL, RequestState
from orchestrator.errors import Conflict, NotFound
from orchestrator.store import batch_figures as figures
from orchestrator.store import items, requests
from orchestrator.store.database import Record, Tx

router = APIRouter(prefix="/v1/batches", tags=["batches"], route_class=GuardedRoute)

LINES_AT_ONCE = 500
CustomId = Annotated[str, Path(pattern=NAME, description="of the item")]
After = Annotated[str | None, Query(pattern=r"^\d{1,9}$", description="`next_cursor` of the page before")]
_LINES = ("application/jsonl", "Content-Disposition")


# --------------------------------------------------------------------------------------------------------------- items


@router.get(
    "/{batch_id}/items",
    summary="Items in the order of their lines",
    **operation("list_items", "not_found", ok={200: Answer(means="a page", model=shapes.ItemPage)}),
)
async def list_items(
    batch_id: BatchId,
    here: Here,
    identity: Reader,
    status: Annotated[str | None, Query(max_length=200, description="comma separated")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: After = None,
) -> JSONResponse:
    states = states_of(status, RequestState)

    def work(tx: Tx) -> Sequence[Record]:
        figures.get(tx, identity.tenant, batch_id)
        return items.page(tx, batch_id, states=states, after=int(cursor or 0), limit=limit + 1)

    rows = await here.look(work)
    page, more = rows[:limit], len(rows) > limit
    following = str(page[-1].line) if more else None
    data = [request_views.request(row) for row in page]
    return JSONResponse({"data": data, "has_more": more, "next_cursor": following})


@router.get(
    "/{batch_id}/items/{custom_id}",
    summary="The request of an item",
    **operation("get_item", "not_found", ok={200: Answer(means="as it is now", model=request_shapes.Request)}),
)
async def read_item(batch_id: BatchId, custom_id: CustomId, here: Here, identity: Reader) -> Any:
    return request_views.request(await here.look(lambda tx: _item(tx, identity.tenant, batch_id, custom_id)))


def _item(tx: Tx, tenant: str, batch_id: str, custom_id: str) -> Record:
    figures.get(tx, tenant, batch_id)
    if (request_id := items.current(tx, batch_id, custom_id)) is None:
        raise NotFound(f"batch {batch_id} has no item {custom_id!r}")
    return requests.get(tx, tenant, request_id)


@router.post(
    "/{batch_id}/items/{custom_id}/retry",
    status_code=202,
    summary="Try an item again that did not succeed",
    **operation(
        "retry_item",
        "not_found",
        "item_not_over",
        "item_succeeded",
        "batch_over",
        ok={202: Answer(means="a new request takes its place", model=request_shapes.Request)},
    ),
)
async def retry_item(batch_id: BatchId, custom_id: CustomId, here: Here, identity: Submitter) -> JSONResponse:
    """What ran before stays on record, named by `retry_of`. A batch that is over opens again."""

    def work(tx: Tx) -> Record:
        row = figures.lock_own(tx, identity.tenant, batch_id)
        state = RequestState(_item(tx, identity.tenant, batch_id, custom_id).state)
        if state is RequestState.SUCCEEDED:
            raise Conflict(f"item {custom_id!r} has succeeded", code="item_succeeded")
        if state not in TERMINAL:
            raise Conflict(f"item {custom_id!r} is {state}: it is tried already", code="item_not_over")
        open_again(tx, row)
        items.repeat(tx, row, custom_id=custom_id)
        return _item(tx, identity.tenant, batch_id, custom_id)

    answer = request_views.request(await here.transact(work))
    look(here)
    return JSONResponse(answer, status_code=202)


# -------------------------------------------------------------------------------------------------------------- results


@router.get(
    "/{batch_id}/results.jsonl",
    summary="What came out, a line for each item that is over",
    response_class=StreamingResponse,
    **operation(
        "read_results",
        "not_found",
        ok={200: Answer(means="in the order of the lines", media=_LINES[0], headers=_LINES[1:])},
    ),
)
async def results(batch_id: BatchId, here: Here, identity: Reader) -> StreamingResponse:
    """Good at any time: while the batch runs it has the items that are over, in the end one line for each that came."""
    await here.look(lambda tx: figures.get(tx, identity.tenant, batch_id))
    lines = _stream(here, batch_id, items.results, views.result_line, views.refused_result_line)
    return _file(lines, f"{batch_id}.results.jsonl")


@router.get(
    "/{batch_id}/errors.jsonl",
    summary="What did not succeed, as lines that can be sent again",
    response_class=StreamingResponse,
    **operation(
        "read_errors",
        "not_found",
        ok={200: Answer(means="in the order of the lines", media=_LINES[0], headers=_LINES[1:])},
    ),
)
async def errors_(batch_id: BatchId, here: Here, identity: Reader) -> StreamingResponse:
    await here.look(lambda tx: figures.get(tx, identity.tenant, batch_id))
    lines = _stream(here, batch_id, items.errors, views.error_line, views.refused_error_line)
    return _file(lines, f"{batch_id}.errors.jsonl")


def _file(lines: AsyncIterator[bytes], name: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines, media_type=_LINES[0], headers=headers)


async def _stream(
    here: Office,
    batch_id: str,
    read: Callable[..., Sequence[Record]],
    line: Callable[[Record], bytes],
    refused_line: Callable[[Record], bytes],
) -> AsyncIterator[bytes]:
    """Page after page, each a look of its own: constant memory, and no transaction that stays open.

    Raises NotFound, which breaks the answer off, if the batch is deleted meanwhile: a part must not pass for the whole.
    """
    after, more = 0, True
    while more:
        found, refused = await here.look(partial(_page, batch_id=batch_id, read=read, after=after))
        more = len(found) == LINES_AT_ONCE
        both = [(row.line, line(row)) for row in found] + [(row.line, refused_line(row)) for row in refused]
        yield b"".join(said for _, said in sorted(both))
        after = found[-1].line if more else 0


def _page(
    tx: Tx, *, batch_id: str, read: Callable[..., Sequence[Record]], after: int
) -> tuple[Sequence[Record], Sequence[Record]]:
    """Items and refused lines, up to the last line of the items if there may be more of them."""
    found = read(tx, batch_id, after=after, limit=LINES_AT_ONCE)
    until = found[-1].line if len(found) == LINES_AT_ONCE else None
    refused = figures.refused_between(tx, batch_id, after, until)
    if not figures.is_there(tx, batch_id):  # asked last: what was read before is whole then
        raise figures.not_found(batch_id)
    return found, refused
