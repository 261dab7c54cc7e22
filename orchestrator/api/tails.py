"""/v1/requests/{id}/logs: what the ranks wrote."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from orchestrator.api import loglines
from orchestrator.api.auth import GuardedRoute, Here, Reader
from orchestrator.api.contract import Answer, operation
from orchestrator.api.parameters import Ranks, RequestId, Tail
from orchestrator.store import logs, requests
from orchestrator.store.database import Tx

router = APIRouter(prefix="/v1/requests", tags=["requests"], route_class=GuardedRoute)


@router.get(
    "/{request_id}/logs",
    summary="What the ranks wrote",
    response_class=PlainTextResponse,
    **operation(
        "read_request_logs", "not_found", "purged", ok={200: Answer(means="lines of text", media="text/plain")}
    ),
)
async def read_logs(
    request_id: RequestId, here: Here, identity: Reader, rank: Ranks = "0", tail: Tail = 1000
) -> PlainTextResponse:
    def work(tx: Tx) -> Any:
        requests.peek(tx, identity.tenant, request_id)
        return logs.of_request(tx, request_id, loglines.ranks(rank), loglines.MOST_CHUNKS)

    chunks = await here.look(work)
    return PlainTextResponse(loglines.joined(chunks, tail, prefixed=rank == "all" or "," in rank))
