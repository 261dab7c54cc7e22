"""/v1/requests, one of them: submit, look, wait, cancel. Lists, events, logs and files have rooms of their own."""

from __future__ import annotations

import re
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse

from orchestrator.api import auth, looking, shapes, views
from orchestrator.api.auth import Canceler, GuardedRoute, Here, Reader, Submitter
from orchestrator.api.contract import Answer, operation
from orchestrator.api.hub import request_topic, wait_for
from orchestrator.api.lane import Call, Way
from orchestrator.api.office import Office
from orchestrator.api.parameters import (
    LONGEST_WAIT_S,
    Key,
    OwnRequestId,
    Preference,
    RequestId,
    Wait,
    matches,
    preference,
    trace_of,
)
from orchestrator.api.submission import Claim, Submission, submit
from orchestrator.api.views import Json
from orchestrator.api.waiting import foresee
from orchestrator.domain import tracing
from orchestrator.domain.access import Identity, Permission
from orchestrator.domain.ids import new_id
from orchestrator.errors import Conflict, Invalid, NotFound, QueueFull, Unavailable
from orchestrator.store import requests
from orchestrator.store.database import Tx

router = APIRouter(prefix="/v1/requests", tags=["requests"], route_class=GuardedRoute)

ASK_AGAIN_S = 1
"""What a 202 says in Retry-After: how soon to look; `wait` is better."""
_PREFER = Header(description="`wait=n`: hold the answer up to n seconds for the end; `respond-async`")
Prefer = Annotated[str | None, _PREFER]
_CREATED = ("Location", "Preference-Applied", "Idempotent-Replayed")
RECORDED = {
    202: Answer(means="recorded durably", model=shapes.Request, headers=(*_CREATED, "Retry-After")),
    200: Answer(means="it has ended already (`Prefer: wait`)", model=shapes.Request, headers=_CREATED),
}
"""What answers whoever wants a request recorded."""
REFUSED = (
    "unknown_template",
    "no_warm_pool",
    "webhook_url_refused",
    "no_webhook_secret",
    "queue_full",
    "rate_limited",
)


@router.post(
    "",
    status_code=202,
    summary="Submit a request",
    **operation("submit_request", *REFUSED, "idempotency_key_reused", ok=RECORDED),
)
async def create(
    body: Submission,
    http: Request,
    here: Here,
    identity: Submitter,
    idempotency_key: Key = None,
    prefer: Prefer = None,
) -> JSONResponse:
    """Recorded durably before this answers. The same Idempotency-Key and body give the same request for 24 h."""
    claim = Claim(request_id=new_id("req"), key=idempotency_key, trace=trace_of(http))
    return await accepted(here, identity, body, claim, preference(http))


async def _plain(here: Office, call: Call) -> JSONResponse | None:
    """`create` of a call that has nothing special about it."""
    key = call.headers.get(b"idempotency-key")
    identity = auth.known(call.token, Permission.SUBMIT)
    if identity is None or call.query or (key is not None and not _KEY.fullmatch(key)):
        return None
    if (body := await call.read(Submission)) is None:
        return None
    said, state = (call.headers.get(name, b"").decode("latin-1") for name in (b"traceparent", b"tracestate"))
    trace = tracing.read(said, state) if said else None
    claim = Claim(request_id=new_id("req"), key=key.decode() if key else None, trace=trace)
    return await accepted(here, identity, body, claim, Preference())


_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
SHORT = Way(method="POST", path="/v1/requests", plain=_plain)


@router.put(
    "/{request_id}",
    status_code=202,
    summary="Submit a request under an ID of your own",
    **operation("submit_request_as", *REFUSED, "request_id_reused", ok=RECORDED),
)
async def create_as(
    request_id: OwnRequestId, body: Submission, http: Request, here: Here, identity: Submitter, prefer: Prefer = None
) -> JSONResponse:
    """As POST; the ID does what an Idempotency-Key does, for as long as the request is known."""
    claim = Claim(request_id=request_id, own=True, trace=trace_of(http))
    return await accepted(here, identity, body, claim, preference(http))


async def accepted(
    here: Office, identity: Identity, body: Submission, claim: Claim, preferred: Preference
) -> JSONResponse:
    """The answer to whoever wants a request recorded, this time or an earlier one."""
    if not here.admission.may_park(identity.tenant):
        preferred = replace(preferred, wait_s=0.0)
    answer, replayed = await _submitted(here, identity, body, claim, preferred.wait_s)
    headers = {"Location": f"/v1/requests/{answer['id']}"}
    if applied := preferred.applied(ended=answer["is_terminal"]):
        headers["Preference-Applied"] = applied
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    if answer["is_terminal"]:
        return JSONResponse(answer, status_code=200, headers=headers)
    return JSONResponse(answer, status_code=202, headers={**headers, "Retry-After": str(ASK_AGAIN_S)})


async def _submitted(
    here: Office, identity: Identity, body: Submission, claim: Claim, wait_s: float
) -> tuple[Json, bool]:
    """The request, and whether it is an earlier one with the same key or ID.

    What was accepted stays accepted, whatever became of the template since. An ID of the caller's own may be one that
    is deleted, so it is looked for first.
    """
    if claim.own and (held := await claim.holder(here, identity.tenant, body)):
        return await looking.earlier(here, identity.tenant, held, wait_s), True
    try:
        if answer := await _recorded(here, identity, body, claim, wait_s):
            return answer, False
    except (NotFound, Invalid, Conflict, QueueFull):
        if not (held := await claim.holder(here, identity.tenant, body)):
            raise
    else:
        held = await claim.holder(here, identity.tenant, body)
    if not held:
        raise Unavailable("the request with this key or ID was just removed; send it again")
    return await looking.earlier(here, identity.tenant, held, wait_s), True


async def _recorded(here: Office, identity: Identity, body: Submission, claim: Claim, wait_s: float) -> Json | None:
    """The new request, at its end if that comes in time. None: another one holds the key or the ID."""
    if not wait_s:
        accepted = await submit(here, identity, body, claim)
        return accepted.row and views.request(accepted.row, waiting=foresee(accepted))
    with here.hub.waiter(request_topic(claim.request_id)) as woken:  # before it can end
        accepted = await submit(here, identity, body, claim)
        return accepted.row and await looking.until_terminal(here, identity.tenant, claim.request_id, woken, wait_s)


@router.get(
    "/{request_id}",
    summary="One request; waits if asked",
    **operation(
        "get_request",
        "not_found",
        "purged",
        "too_many_waits",
        ok={
            200: Answer(means="as it is now", model=shapes.Request, headers=("ETag",)),
            304: Answer(means="it still has the ETag of If-None-Match", headers=("ETag",)),
        },
    ),
)
async def read(
    request_id: RequestId,
    here: Here,
    identity: Reader,
    wait: Wait = 0.0,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """With `wait`: until it is terminal; with If-None-Match too: until its ETag changes, 304 if it does not."""
    deadline = time.monotonic() + min(wait, LONGEST_WAIT_S)
    parked = here.admission.parked(identity.tenant) if wait else nullcontext()
    with parked, here.hub.waiter(request_topic(request_id)) as woken:
        while True:
            answer, tag = await looking.tagged(here, identity.tenant, request_id)
            fresh = if_none_match is not None and not matches(if_none_match, tag)
            left = deadline - time.monotonic()
            if answer["is_terminal"] or fresh or left <= 0 or here.hub.closing:
                break
            await wait_for(woken, left)
    if matches(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag})
    return JSONResponse(answer, headers={"ETag": tag})


@router.post(
    "/{request_id}/cancel",
    summary="Cancel a request",
    **operation(
        "cancel_request",
        "not_found",
        "purged",
        ok={
            200: Answer(means="it is terminal, maybe since before", model=shapes.Request),
            202: Answer(means="its gang is being told", model=shapes.Request),
        },
    ),
)
async def cancel(request_id: RequestId, here: Here, identity: Canceler) -> JSONResponse:
    """200 when it is terminal (also when it was before), 202 while the gang is being told."""

    def work(tx: Tx) -> Any:
        try:
            return requests.cancel(tx, identity.tenant, request_id)
        except Conflict:
            return requests.get(tx, identity.tenant, request_id)

    row = await here.transact(work)
    here.wake(requests=[request_id], gangs=[row.last_gang] if row.last_gang else [])
    here.ring("plan")
    answer = views.request(row)
    return JSONResponse(answer, status_code=200 if answer["is_terminal"] else 202)
