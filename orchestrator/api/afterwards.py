"""/v1/requests/{id}, once it has ended: the same again, or nothing of it any more."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from orchestrator.api.auth import Canceler, GuardedRoute, Here, Submitter
from orchestrator.api.contract import Answer, operation
from orchestrator.api.parameters import Key, RequestId, preference, trace_of
from orchestrator.api.requests import RECORDED, Prefer, accepted
from orchestrator.api.submission import Claim, Submission
from orchestrator.domain.ids import new_id
from orchestrator.domain.states import TERMINAL
from orchestrator.store import purging, requests
from orchestrator.store.database import Record

router = APIRouter(prefix="/v1/requests", tags=["requests"], route_class=GuardedRoute)


@router.post(
    "/{request_id}/retry",
    status_code=202,
    summary="Submit an ended request once more",
    **operation(
        "retry_request",
        "not_found",
        "purged",
        "not_terminal",
        "unknown_template",
        "no_warm_pool",
        "invalid_input",
        "idempotency_key_reused",
        ok=RECORDED,
    ),
)
async def retry(
    request_id: RequestId,
    http: Request,
    here: Here,
    identity: Submitter,
    idempotency_key: Key = None,
    prefer: Prefer = None,
) -> JSONResponse:
    """A new request with `retry_of`: the same input, as it was completed then, on the template's current version."""
    row = await here.look(lambda tx: requests.get(tx, identity.tenant, request_id))
    if row.state not in TERMINAL:
        raise purging.not_terminal(request_id, row.state)
    claim = Claim(request_id=new_id("req"), key=idempotency_key, retry_of=request_id, trace=trace_of(http))
    return await accepted(here, identity, again(row), claim, preference(http))


def again(row: Record) -> Submission:
    """What would be sent for this request today; its bounds are those it had, or the template's where they shrank.

    What was accepted once is not held to the bounds of a body again: an operator may have set others.
    """
    within_s = (row.start_by - row.created_at).total_seconds() if row.start_by else None
    return Submission.model_construct(
        template=row.template,
        input=row.input,
        mode=row.mode,
        priority=row.priority,
        timeout_s=row.timeout_s,
        expire_queued_after_s=within_s,
        max_attempts=row.max_attempts,
        output_ttl_s=row.output_ttl_s,
        labels=row.labels,
    )


@router.delete(
    "/{request_id}",
    status_code=204,
    summary="Delete an ended request and all that it left",
    **operation(
        "delete_request", "not_found", "purged", "not_terminal", "item_of_batch", ok={204: Answer(means="deleted")}
    ),
)
async def delete(request_id: RequestId, here: Here, identity: Canceler) -> None:
    """Row, input, result, events and logs go at once, its files within a minute, once no open request names them."""
    await here.transact(lambda tx: purging.purge(tx, identity.tenant, request_id))
    here.wake(requests=[request_id])
