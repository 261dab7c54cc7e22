"""/v1/requests: submit, look, wait, cancel, events, logs, outputs."""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from orchestrator.api import artifacts, loglines, shapes, views
from orchestrator.api.auth import GuardedRoute, Here, Reader, Submitter
from orchestrator.api.contract import Answer, operation
from orchestrator.api.hub import Waiter, request_topic, wait_for
from orchestrator.api.office import Office
from orchestrator.api.submission import Submission, holder, submit
from orchestrator.api.views import Json
from orchestrator.api.waiting import explain, foresee
from orchestrator.domain.ids import new_id
from orchestrator.domain.states import LEASED, RequestState
from orchestrator.errors import Conflict, Invalid, NotFound, Unavailable
from orchestrator.store import logs, losses, requests
from orchestrator.store import outputs as stored
from orchestrator.store.database import Record, Tx
from orchestrator.store.tokens import Identity

router = APIRouter(prefix="/v1/requests", tags=["requests"], route_class=GuardedRoute)

LONGEST_WAIT_S = 30.0
RequestId = Annotated[str, Path(pattern=r"^req_[0-9a-z]{26}$", description="request ID")]
OutputName = Annotated[str, Path(max_length=255, pattern=r"^[^/\x00]+$")]
Wait = Annotated[
    float, Query(ge=0, description=f"seconds to wait for the end or a change, at most {LONGEST_WAIT_S:.0f}")
]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]


_CREATED = ("Location", "Preference-Applied", "Idempotent-Replayed")
_FILE = ("Accept-Ranges", "Content-Disposition", "ETag", "X-Checksum-Sha256")


@router.post(
    "",
    status_code=202,
    summary="Submit a request",
    **operation(
        "submit_request",
        "unknown_template",
        "no_warm_pool",
        "idempotency_key_reused",
        ok={
            202: Answer(means="recorded durably", model=shapes.Request, headers=_CREATED),
            200: Answer(means="it has ended already (`Prefer: wait`)", model=shapes.Request, headers=_CREATED),
        },
    ),
)
async def create(
    body: Submission,
    here: Here,
    identity: Submitter,
    idempotency_key: Key = None,
    prefer: Annotated[str | None, Header()] = None,
) -> JSONResponse:
    """Recorded durably before this answers. The same Idempotency-Key and body give the same request for 24 h."""
    wait_s = _preferred_wait(prefer)
    answer, replayed = await _submitted(here, identity, body, idempotency_key, wait_s)
    headers = {"Location": f"/v1/requests/{answer['id']}"}
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s:g}"
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(answer, status_code=200 if answer["is_terminal"] else 202, headers=headers)


async def _submitted(
    here: Office, identity: Identity, body: Submission, key: str | None, wait_s: float
) -> tuple[Json, bool]:
    """The request, and whether it is an earlier one with the same key.

    What was accepted under the key stays accepted, whatever became of the template since.
    """
    try:
        if answer := await _accepted(here, identity, body, key, wait_s):
            return answer, False
    except (NotFound, Invalid, Conflict):
        if not (held := key and await holder(here, identity.tenant, key, body)):
            raise
    else:
        held = await holder(here, identity.tenant, key or "", body)
    if not held:
        raise Unavailable("the request with this Idempotency-Key was just removed; send it again")
    return await _replayed(here, identity.tenant, held, wait_s), True


async def _accepted(here: Office, identity: Identity, body: Submission, key: str | None, wait_s: float) -> Json | None:
    """The new request, at its end if that comes in time. None: another one holds the key."""
    request_id = new_id("req")
    if not wait_s:
        accepted = await submit(here, identity, body, key, request_id)
        return accepted.row and views.request(accepted.row, waiting=foresee(accepted))
    with here.hub.waiter(request_topic(request_id)) as woken:  # before it can end
        accepted = await submit(here, identity, body, key, request_id)
        return accepted.row and await _until_terminal(here, identity.tenant, request_id, woken, wait_s)


def _preferred_wait(prefer: str | None) -> float:
    match = re.search(r"(?:^|[,;\s])wait=(\d{1,6})\b", prefer or "")
    return min(float(match.group(1)), LONGEST_WAIT_S) if match else 0.0


@router.get(
    "",
    summary="List requests, newest first",
    **operation("list_requests", "bad_cursor", ok={200: Answer(means="a page", model=shapes.RequestPage)}),
)
async def list_requests(
    here: Here,
    identity: Reader,
    status: Annotated[str | None, Query(description="comma separated")] = None,
    template: Annotated[str | None, Query(max_length=40, pattern=r"^[^\x00]*$")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> JSONResponse:
    states = _states(status)
    before = _read_cursor(cursor) if cursor else None

    def work(tx: Tx) -> Any:
        return requests.list_page(tx, identity.tenant, states=states, template=template, before=before, limit=limit + 1)

    rows = await here.look(work)
    page = rows[:limit]
    more = len(rows) > limit
    following = _write_cursor(page[-1].created_at.isoformat(), page[-1].id) if more else None
    return JSONResponse({"data": [views.request(row) for row in page], "has_more": more, "next_cursor": following})


def _states(status: str | None) -> list[str] | None:
    if not status:
        return None
    asked = ["canceled" if part == "cancelled" else part for part in status.split(",")]
    unknown = sorted(set(asked) - set(RequestState))
    if unknown:
        raise Invalid(f"no status {unknown[0][:40]!r}; there are {', '.join(RequestState)}", pointer="/status")
    return asked


def _write_cursor(created_at: str, request_id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([created_at, request_id]).encode()).decode()


def _read_cursor(cursor: str) -> tuple[str, str]:
    try:
        created_at, request_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if datetime.fromisoformat(created_at).tzinfo and re.fullmatch(r"req_[0-9a-z]{26}", request_id):
            return created_at, request_id
    except (ValueError, TypeError, RecursionError):
        pass
    raise Invalid("this cursor was not made here", code="bad_cursor", pointer="/cursor")


@router.get(
    "/{request_id}",
    summary="One request; waits if asked",
    **operation(
        "get_request",
        "not_found",
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
    with here.hub.waiter(request_topic(request_id)) as woken:
        while True:
            answer, tag = await _tagged(here, identity.tenant, request_id)
            fresh = if_none_match is not None and tag != if_none_match
            left = deadline - time.monotonic()
            if answer["is_terminal"] or fresh or left <= 0 or here.hub.closing:
                break
            await wait_for(woken, left)
    if if_none_match == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return JSONResponse(answer, headers={"ETag": tag})


async def _until_terminal(here: Office, tenant: str, request_id: str, woken: Waiter, seconds: float) -> dict[str, Any]:
    """The request when it has ended, or as it is after that long. It is looked at when something happened to it."""
    deadline = time.monotonic() + seconds
    while not here.hub.closing and await wait_for(woken, deadline - time.monotonic()):
        if woken.ended is not None and not _has_losses(woken.ended):
            return views.request(woken.ended)
        answer = await _shown(here, tenant, request_id)
        if answer["is_terminal"]:
            return answer
    return await _shown(here, tenant, request_id)


async def _replayed(here: Office, tenant: str, request_id: str, seconds: float) -> dict[str, Any]:
    """An earlier request, which may have ended already."""
    with here.hub.waiter(request_topic(request_id)) as woken:
        answer = await _shown(here, tenant, request_id)
        if answer["is_terminal"] or not seconds:
            return answer
        return await _until_terminal(here, tenant, request_id, woken, seconds)


async def _shown(here: Office, tenant: str, request_id: str) -> dict[str, Any]:
    answer, _ = await _tagged(here, tenant, request_id)
    return answer


async def _tagged(here: Office, tenant: str, request_id: str) -> tuple[dict[str, Any], str]:
    def work(tx: Tx) -> tuple[dict[str, Any], str]:
        row = requests.get(tx, tenant, request_id)
        lost = losses.of_request(tx, request_id) if _has_losses(row) else []
        return views.request(row, waiting=explain(tx, row), losses=lost), views.etag(row)

    return await here.look(work)


def _has_losses(row: Record) -> bool:
    """Not while its first attempt lives, nor if that succeeded: this saves nearly every look a join."""
    if row.attempts == 1:
        return row.state not in LEASED and row.state != RequestState.SUCCEEDED
    return bool(row.attempts)


@router.post(
    "/{request_id}/cancel",
    summary="Cancel a request",
    **operation(
        "cancel_request",
        "not_found",
        ok={
            200: Answer(means="it is terminal, maybe since before", model=shapes.Request),
            202: Answer(means="its gang is being told", model=shapes.Request),
        },
    ),
)
async def cancel(request_id: RequestId, here: Here, identity: Submitter) -> JSONResponse:
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


@router.get(
    "/{request_id}/events",
    summary="Every move of a request",
    **operation("list_events", "not_found", ok={200: Answer(means="in order", model=shapes.Events)}),
)
async def events(request_id: RequestId, here: Here, identity: Reader, after: Annotated[int, Query(ge=0)] = 0) -> Any:
    rows = await here.look(lambda tx: requests.events(tx, identity.tenant, request_id, after))
    return {"data": [views.event(row) for row in rows]}


@router.get(
    "/{request_id}/logs",
    summary="What the ranks wrote",
    response_class=PlainTextResponse,
    **operation("read_request_logs", "not_found", ok={200: Answer(means="lines of text", media="text/plain")}),
)
async def read_logs(
    request_id: RequestId,
    here: Here,
    identity: Reader,
    rank: Annotated[str, Query(pattern=r"^(all|\d{1,5}(,\d{1,5}){0,63})$")] = "0",
    tail: Annotated[int, Query(ge=1, le=100_000)] = 1000,
) -> PlainTextResponse:
    def work(tx: Tx) -> Any:
        requests.peek(tx, identity.tenant, request_id)
        return logs.of_request(tx, request_id, loglines.ranks(rank), loglines.MOST_CHUNKS)

    chunks = await here.look(work)
    return PlainTextResponse(loglines.joined(chunks, tail, prefixed=rank == "all" or "," in rank))


@router.get(
    "/{request_id}/outputs",
    summary="Files of a request",
    **operation("list_outputs", "not_found", ok={200: Answer(means="by name", model=shapes.Outputs)}),
)
async def outputs(request_id: RequestId, here: Here, identity: Reader) -> Any:
    return {"data": (await _shown(here, identity.tenant, request_id))["outputs"]}


@router.get(
    "/{request_id}/outputs/{name}",
    summary="One file",
    response_class=StreamingResponse,
    **operation(
        "download_output",
        "not_found",
        "output_expired",
        "integrity",
        ok={
            200: Answer(means="the bytes", media="*/*", headers=_FILE),
            206: Answer(means="the bytes of Range", media="*/*", headers=(*_FILE, "Content-Range")),
            416: Answer(means="Range asks for bytes that are not there", headers=("Content-Range",)),
        },
    ),
)
async def output(request_id: RequestId, name: OutputName, here: Here, identity: Reader, http: Request) -> Response:
    """Never shown inline: an output may be HTML that somebody's model wrote."""
    row = await here.look(lambda tx: stored.get(tx, identity.tenant, request_id, name))
    return artifacts.response(row, here.settings.outputs, http.headers.get("range"))
