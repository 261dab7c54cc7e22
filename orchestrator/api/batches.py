"""/v1/batches: many requests at once; submit, look, cancel, pause, resume. Items and results: batch_items.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from orchestrator.api import batch_shapes as shapes
from orchestrator.api import batch_views as views
from orchestrator.api import cursors, intake
from orchestrator.api.auth import Canceler, GuardedRoute, Here, Reader, Steerer, Submitter
from orchestrator.api.batch_common import BatchId, look, open_again, states_of
from orchestrator.api.batch_shapes import BatchOrder, NamedBatchOrder
from orchestrator.api.body import as_model
from orchestrator.api.contract import Answer, operation
from orchestrator.api.intake import Caller
from orchestrator.api.listing import LABEL, labels_asked, taking
from orchestrator.api.office import Office
from orchestrator.api.parameters import Key, trace_of
from orchestrator.domain.states import BatchReason, BatchState
from orchestrator.errors import Conflict, Invalid
from orchestrator.store import batch_figures as figures
from orchestrator.store import batch_retention, batches, items
from orchestrator.store.database import Tx
from orchestrator.store.listing import Place

router = APIRouter(prefix="/v1/batches", tags=["batches"], route_class=GuardedRoute)

JSONL = ("application/jsonl", "application/x-ndjson")
REFUSALS_SHOWN = 20
_CREATED = ("Location", "Idempotent-Replayed")


@router.post(
    "",
    status_code=202,
    summary="Submit a batch",
    **operation(
        "submit_batch",
        "unknown_template",
        "not_found",
        "empty_batch",
        "duplicate_custom_id",
        "too_many_items",
        "too_many_batches",
        "too_many_uploads",
        "rate_limited",
        "url_not_allowed",
        "idempotency_key_reused",
        ok={202: Answer(means="recorded durably, with all its items", model=shapes.Batch, headers=_CREATED)},
        body=(*JSONL, NamedBatchOrder),
    ),
)
@taking(LABEL)
async def create(
    http: Request,
    here: Here,
    identity: Submitter,
    idempotency_key: Key = None,
    template: Annotated[str | None, Query(max_length=40, description="with JSONL: name of the template")] = None,
    errors: Annotated[str | None, Query(max_length=10, description="`strict` (default) or `items`")] = None,
    max_parallel: Annotated[int | None, Query(ge=1, le=1000, description="gangs; default: the template's")] = None,
    max_failed: Annotated[str | None, Query(max_length=12, description="a number or a share (`10%`)")] = None,
    on_max_failed: Annotated[str | None, Query(max_length=10, description="`stop` (default) or `pause`")] = None,
    priority: Annotated[int | None, Query(ge=-1000, le=1000)] = None,
    expire_after_s: Annotated[float | None, Query(gt=0, le=31 * 86400)] = None,
) -> JSONResponse:
    """The body is the lines (JSONL), with what else there is to say in the query (`label.KEY=VALUE` for labels); or a
    JSON object that names a file or a place in storage, whose lines are looked at later, while the batch is
    `validating`. One line per item. All lines are looked at before anything runs. Under an Idempotency-Key the same
    lines and parameters are the same batch for seven days.
    """
    await here.admission.check_rate(identity.tenant)
    caller = Caller(tenant=identity.tenant, key=idempotency_key, trace=trace_of(http))
    media = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/json":
        if http.query_params:
            raise Invalid("with a JSON body, say all of it there, nothing in the query", pointer="/query")
        taken = await intake.take_name(here, caller, _order(NamedBatchOrder, await http.json()))
    elif media in JSONL:
        _check_head(http)
        said = _from_query(http, max_parallel, priority, expire_after_s)
        taken = await intake.take_lines(here, caller, _order(BatchOrder, said), http.stream())
    else:
        raise Invalid(f"send {' or '.join(JSONL)}, or application/json", code="unsupported_media_type")
    headers = {"Location": f"/v1/batches/{taken.batch_id}"}
    if taken.replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(await _shown(here, identity.tenant, taken.batch_id), status_code=202, headers=headers)


def _from_query(
    http: Request, max_parallel: int | None, priority: int | None, expire_after_s: float | None
) -> dict[str, Any]:
    """What was said: as FastAPI read the numbers, all else as it stands."""
    numbers = {"max_parallel": max_parallel, "priority": priority, "expire_after_s": expire_after_s}
    labels = {name.removeprefix(LABEL): value for name, value in http.query_params.items() if name.startswith(LABEL)}
    said: dict[str, Any] = {k: v for k, v in http.query_params.items() if not k.startswith(LABEL)}
    said |= {name: value for name, value in numbers.items() if value is not None}
    return {**said, "labels": labels} if labels else said


def _order(kind: type[BatchOrder], said: Any) -> BatchOrder:
    order = as_model(kind, said)
    if kind is BatchOrder and (order.file or order.url):
        raise Invalid("the lines are the body: name no file and no url", pointer="/file")
    return order


def _check_head(http: Request) -> None:
    if http.headers.get("content-encoding", "identity") != "identity":
        raise Invalid("compressed bodies are not accepted", code="unsupported_media_type")


@router.get(
    "",
    summary="List batches, newest first",
    **operation("list_batches", "bad_cursor", ok={200: Answer(means="a page", model=shapes.BatchPage)}),
)
@taking(LABEL)
async def list_batches(
    http: Request,
    here: Here,
    identity: Reader,
    status: Annotated[str | None, Query(max_length=200, description="comma separated")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=400, description="`next_cursor` of the page before")] = None,
) -> JSONResponse:
    """`label.KEY=VALUE` asks for a label, up to eight of them. A cursor is good for the same question only."""
    states, labels = states_of(status, BatchState), labels_asked(http)
    page, following = await listed(here, identity.tenant, states, limit, cursor, labels)
    data = [views.batch(one) for one in page]
    return JSONResponse({"data": data, "has_more": following is not None, "next_cursor": following})


async def listed(
    here: Office,
    tenant: str,
    states: Sequence[str],
    limit: int,
    cursor: str | None,
    labels: Mapping[str, str] | None = None,
) -> tuple[Sequence[figures.Shown], str | None]:
    """A page of them, newest first, and the cursor of the next one. Raises Invalid `bad_cursor`."""
    key = await here.secret("cursor")
    question = f"batches {','.join(states)}" + (f" {json.dumps(dict(labels), sort_keys=True)}" if labels else "")
    place = cursors.read(key, tenant, question, cursor) if cursor is not None else None
    before = (place.created_at, place.id) if place else None
    found = await here.look(
        lambda tx: figures.list_page(tx, tenant, states=states, before=before, limit=limit + 1, labels=labels)
    )
    page = found[:limit]
    if len(found) <= limit:
        return page, None
    last = Place(created_at=page[-1].row.created_at.isoformat(), id=page[-1].row.id)
    return page, cursors.write(key, tenant, question, last)


@router.get(
    "/{batch_id}",
    summary="One batch with its counts",
    **operation("get_batch", "not_found", ok={200: Answer(means="as it is now", model=shapes.Batch)}),
)
async def read(batch_id: BatchId, here: Here, identity: Reader) -> Any:
    return await _shown(here, identity.tenant, batch_id)


async def _shown(here: Office, tenant: str, batch_id: str) -> dict[str, Any]:
    return views.batch(await here.look(lambda tx: figures.get(tx, tenant, batch_id, REFUSALS_SHOWN)))


@router.delete(
    "/{batch_id}",
    status_code=204,
    summary="Delete a batch that is over, with all its items",
    **operation("delete_batch", "not_found", "not_terminal", ok={204: Answer(means="deleted")}),
)
async def delete(batch_id: BatchId, here: Here, identity: Canceler) -> None:
    """Inputs, results, events and logs go at once, files within minutes, once no open request names them."""
    await here.transact(lambda tx: batch_retention.purge(tx, identity.tenant, batch_id))


# ---------------------------------------------------------------------------------------------------------- the verbs


@router.post(
    "/{batch_id}/cancel",
    summary="Cancel a batch",
    **operation(
        "cancel_batch",
        "not_found",
        ok={
            200: Answer(means="it was over already", model=shapes.Batch),
            202: Answer(means="no item starts any more; what runs is being told", model=shapes.Batch),
        },
    ),
)
async def cancel(batch_id: BatchId, here: Here, identity: Canceler) -> JSONResponse:
    """What has succeeded stays; `resume` runs the rest."""

    def work(tx: Tx) -> bool:
        row = figures.lock_own(tx, identity.tenant, batch_id)
        batches.cancel(tx, batch_id, "canceled by a person")
        return row.finished_at is not None

    over = await here.transact(work)
    look(here)
    return JSONResponse(await _shown(here, identity.tenant, batch_id), status_code=200 if over else 202)


@router.post(
    "/{batch_id}/pause",
    summary="Let no item start",
    **operation(
        "pause_batch",
        "not_found",
        "batch_over",
        "batch_validating",
        ok={200: Answer(means="paused", model=shapes.Batch)},
    ),
)
async def pause(batch_id: BatchId, here: Here, identity: Steerer) -> Any:
    """What runs ends by itself; gangs without an item leave."""

    def work(tx: Tx) -> None:
        row = figures.lock_own(tx, identity.tenant, batch_id)
        batches.refuse_to_pause(row)
        batches.pause(tx, batch_id, BatchReason.ASKED, "paused by a person")

    await here.transact(work)
    look(here)
    return await _shown(here, identity.tenant, batch_id)


@router.post(
    "/{batch_id}/resume",
    summary="Go on with a paused batch, or run what is not done of one that is over",
    **operation(
        "resume_batch",
        "not_found",
        "batch_over",
        "nothing_to_resume",
        ok={200: Answer(means="its items may start", model=shapes.Batch)},
    ),
)
async def resume(batch_id: BatchId, here: Here, identity: Steerer) -> Any:
    """Only what has not succeeded runs. Changes nothing in a batch that is queued or running."""

    def work(tx: Tx) -> None:
        row = figures.lock_own(tx, identity.tenant, batch_id)
        if row.state == BatchState.PAUSED:
            batches.resume(tx, batch_id, int(row.failed))
        elif row.finished_at is not None or row.state == BatchState.FINALIZING:
            open_again(tx, row)
            if items.repeat(tx, row) == 0:
                raise Conflict(
                    f"all items of batch {batch_id} have succeeded, or it has none", code="nothing_to_resume"
                )

    await here.transact(work)
    look(here)
    return await _shown(here, identity.tenant, batch_id)
