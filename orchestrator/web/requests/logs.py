"""What the ranks of a request wrote, for its page: as it comes, and as a file."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from orchestrator.api import loglines, tails
from orchestrator.api.parameters import Ranks, RequestId
from orchestrator.web.frame.answers import saved
from orchestrator.web.frame.visiting import Guest, Here

router = APIRouter(prefix="/requests")

SHOWN_LINES = 2000
"""Of before, when the page begins to follow."""
MOST_LINES = 100_000


@router.get("/{request_id}/logs")
async def follow(
    request: Request,
    request_id: RequestId,
    here: Here,
    visitor: Guest,
    rank: Ranks = "0",
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
    after: Annotated[str | None, Query(max_length=12_100)] = None,
) -> Response:
    """Server-sent events, as GET /v1/requests/{id}/logs has them. `after`: the last one that a page saw which begins a
    new stream, and so sends no Last-Event-ID."""
    seen = last_event_id or after
    return await tails.as_events(request_id, request, here, visitor.identity, rank, SHOWN_LINES, seen)


@router.get("/{request_id}/logs.txt")
async def download(request_id: RequestId, here: Here, visitor: Guest, rank: Ranks = "all") -> Response:
    """The lines as they were written, to be saved: never shown by the browser."""
    chunks = await tails.written(here, visitor.identity, request_id, rank, MOST_LINES)
    prefixed = rank == "all" or "," in rank
    return saved(f"{request_id}.log", loglines.joined(chunks, MOST_LINES, prefixed=prefixed))
