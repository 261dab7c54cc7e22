"""/v1/requests/{id}/events: every move of a request."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from orchestrator.api import shapes, views
from orchestrator.api.auth import GuardedRoute, Here, Reader
from orchestrator.api.contract import Answer, operation
from orchestrator.api.parameters import RequestId
from orchestrator.store import requests

router = APIRouter(prefix="/v1/requests", tags=["requests"], route_class=GuardedRoute)


@router.get(
    "/{request_id}/events",
    summary="Every move of a request",
    **operation("list_events", "not_found", "purged", ok={200: Answer(means="in order", model=shapes.Events)}),
)
async def events(request_id: RequestId, here: Here, identity: Reader, after: Annotated[int, Query(ge=0)] = 0) -> Any:
    rows = await here.look(lambda tx: requests.events(tx, identity.tenant, request_id, after))
    return {"data": [views.event(row) for row in rows]}
