"""/metrics for a Prometheus that has a token. They tell of the whole installation: only its operator may read them."""

from __future__ import annotations

import anyio.to_thread
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from orchestrator.api.auth import Administrator, GuardedRoute, Here
from orchestrator.api.contract import Answer, operation
from orchestrator.errors import Forbidden
from orchestrator.metrics import CONTENT_TYPE
from orchestrator.settings import OPERATOR

router = APIRouter(tags=["health"], route_class=GuardedRoute)


@router.get(
    "/metrics",
    summary="Numbers of this replica and of the installation",
    response_class=PlainTextResponse,
    **operation("get_metrics", ok={200: Answer(means="Prometheus' text format", media="text/plain")}),
)
async def metrics(here: Here, identity: Administrator) -> Response:
    """Templates of all tenants are in it: other tenants' admins get 403. `MUSTER_METRICS_PORT` needs no token."""
    if identity.tenant != OPERATOR:
        raise Forbidden("metrics are of the whole installation: only a token of its own tenant reads them")
    return Response(await anyio.to_thread.run_sync(here.metrics.render), media_type=CONTENT_TYPE)
