"""/v1/requests/{id}/outputs: which files a request published, and their bytes."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from orchestrator.api import artifacts, looking, shapes
from orchestrator.api.artifacts import Stored
from orchestrator.api.auth import GuardedRoute, Here, Reader
from orchestrator.api.contract import Answer, operation
from orchestrator.api.parameters import OutputName, RequestId
from orchestrator.store import outputs as stored

router = APIRouter(prefix="/v1/requests", tags=["requests"], route_class=GuardedRoute)


_FILE = ("Accept-Ranges", "Content-Disposition", "ETag", "X-Checksum-Sha256")


@router.get(
    "/{request_id}/outputs",
    summary="Files of a request",
    **operation("list_outputs", "not_found", "purged", ok={200: Answer(means="by name", model=shapes.Outputs)}),
)
async def outputs(request_id: RequestId, here: Here, identity: Reader) -> Any:
    return {"data": (await looking.shown(here, identity.tenant, request_id))["outputs"]}


_PROBLEMS = ("not_found", "purged", "output_expired", "integrity")
_SAME = Answer(means="it still has the ETag of If-None-Match: its sha256", headers=("ETag",))


@router.head(
    "/{request_id}/outputs/{name}",
    summary="What is known of one file",
    response_class=Response,
    **operation(
        "look_at_output",
        *_PROBLEMS,
        ok={200: Answer(means="its headers; `Content-Length` is its size", headers=_FILE), 304: _SAME},
    ),
)
@router.get(
    "/{request_id}/outputs/{name}",
    summary="One file",
    response_class=StreamingResponse,
    **operation(
        "download_output",
        *_PROBLEMS,
        "range_not_satisfiable",
        ok={
            200: Answer(means="the bytes", media="*/*", headers=_FILE),
            206: Answer(means="the bytes of Range", media="*/*", headers=(*_FILE, "Content-Range")),
            304: _SAME,
        },
    ),
)
async def output(request_id: RequestId, name: OutputName, here: Here, identity: Reader, http: Request) -> Response:
    """Never shown inline: an output may be HTML that somebody's model wrote. One range at most; `If-Range` holds."""
    row = await here.look(lambda tx: stored.get(tx, identity.tenant, request_id, name))
    return await anyio.to_thread.run_sync(
        artifacts.response, Stored.of(row), here.settings.outputs, http.method, http.headers
    )  # storage may be far away
