"""/v1/requests/{id}/events: every move of a request, as a page or as it happens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from orchestrator.api import following, loglines, shapes, sse, views
from orchestrator.api.auth import GuardedRoute, Here, Reader
from orchestrator.api.contract import Answer, operation
from orchestrator.api.followers import Stream
from orchestrator.api.growing import Following
from orchestrator.api.parameters import Ranks, RequestId
from orchestrator.api.sse import Place
from orchestrator.store import requests

router = APIRouter(prefix="/v1/requests", tags=["requests"], route_class=GuardedRoute)

LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", description="the `id` of the last event that came")]


@router.get(
    "/{request_id}/events",
    summary="Every move of a request",
    **operation(
        "list_events",
        "not_found",
        "purged",
        "bad_event_id",
        "too_many_waits",
        ok={
            200: Answer(
                means="in order; with `Accept: text/event-stream` as they happen",
                model=shapes.Events,
                media=(sse.MEDIA,),
            ),
            204: Answer(means="a stream that was read to its end: do not come back"),
        },
    ),
)
async def events(
    request_id: RequestId,
    http: Request,
    here: Here,
    identity: Reader,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="only those with a larger `seq`")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="of a page")] = 1000,
    logs: Annotated[bool, Query(description="of a stream: what the ranks write, too")] = False,
    rank: Ranks = "0",
    last_event_id: LastEventId = None,
) -> Response:
    """A stream sends `status`, `progress`, `log`, `output` and at last `done`, and goes on where Last-Event-ID says."""
    if not sse.wanted(http.headers.get("accept")):
        rows = await here.look(lambda tx: requests.events(tx, identity.tenant, request_id, after, limit + 1))
        return JSONResponse({"data": [views.event(row) for row in rows[:limit]], "has_more": len(rows) > limit})
    place, seen = sse.last_seen(last_event_id)
    reader = Following(request_id=request_id, ranks=loglines.followed(rank), since=None, known={}) if logs else None
    if reader is not None and seen is not None:
        reader.resume(seen)
    place = max(place, Place(seq=after))
    if following.is_over(await following.news(here, identity.tenant, request_id), place):
        return Response(status_code=204)
    return Stream(here, identity, following.stream(here, http, identity, request_id, place, reader), sse.MEDIA)
