"""/healthz: the process answers. /readyz: it can do its work, with what is wrong."""

from __future__ import annotations

from typing import Any

import anyio
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from orchestrator.api import shapes
from orchestrator.api.auth import Here
from orchestrator.api.contract import Answer, operation
from orchestrator.errors import MusterError
from orchestrator.store import schema

router = APIRouter(tags=["health"])


@router.get(
    "/healthz",
    summary="The process answers",
    **operation("get_health", ok={200: Answer(means="alive", model=shapes.Health)}),
)
async def healthz() -> Any:
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="The database answers and has the schema of this version",
    **operation(
        "get_readiness",
        ok={
            200: Answer(means="takes work", model=shapes.Readiness),
            503: Answer(means="`database` says what is wrong", model=shapes.Unready),
        },
    ),
)
async def readyz(here: Here) -> JSONResponse:
    try:
        found = await anyio.to_thread.run_sync(schema.revision, here.database)
    except MusterError as error:
        return JSONResponse({"status": "unavailable", "database": error.message}, status_code=503)
    wanted = schema.head()
    if schema.is_behind(found):
        detail = f"schema is at {found}, this version needs {wanted}: run `muster migrate`"
        return JSONResponse({"status": "unavailable", "database": detail}, status_code=503)
    return JSONResponse({"status": "ok", "database": "ok", "schema": found})
