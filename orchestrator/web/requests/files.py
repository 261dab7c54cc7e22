"""Files of a request for a browser: bytes that it may show in an <img> or a <video>, and else only saves; previews.

An output is whatever somebody's model wrote. It is never opened as a page here: always an attachment, of a type that no
browser runs, in a sandbox.
"""

from __future__ import annotations

import json
import mimetypes
from dataclasses import replace
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import HTMLResponse

from orchestrator.api import artifacts
from orchestrator.api.artifacts import Stored
from orchestrator.api.parameters import OutputName, RequestId
from orchestrator.errors import NotFound
from orchestrator.store import outputs, requests, timeline
from orchestrator.store.database import Record, Tx
from orchestrator.web.frame import legible
from orchestrator.web.frame.rendering import HEADERS, base_of, fragment
from orchestrator.web.frame.visiting import Guest, Here
from orchestrator.web.requests.previews import PREVIEW_BYTES, base_type, served_as, way_of

router = APIRouter(prefix="/requests")

InputName = Annotated[str, Path(max_length=255, pattern=r"^[^/\x00]+$")]


@router.get("/{request_id}/outputs/{name}")
async def output(request: Request, request_id: RequestId, name: OutputName, here: Here, visitor: Guest) -> Response:
    row = await here.look(lambda tx: outputs.get(tx, visitor.tenant, request_id, name))
    return await _bytes(request, Stored.of(row), here.settings.outputs)


@router.get("/{request_id}/inputs/{name}")
async def given(request: Request, request_id: RequestId, name: InputName, here: Here, visitor: Guest) -> Response:
    """A file that the input names."""
    file = await here.look(lambda tx: _given(tx, visitor.tenant, request_id, name))
    return await _bytes(request, file, here.settings.outputs)


@router.get("/{request_id}/previews/{name}")
async def preview(request: Request, request_id: RequestId, name: OutputName, here: Here, visitor: Guest) -> Response:
    """The beginning of an output that is text, as a part of the page."""
    row = await here.look(lambda tx: outputs.get(tx, visitor.tenant, request_id, name))
    if way_of(row.media_type) != "text":
        raise NotFound(f"output {name!r} is no text")
    text, shown = await anyio.to_thread.run_sync(_beginning, row, here.settings.outputs)
    part = fragment(base_of(request), visitor, "request_preview.html", text=text, shown=shown, size=row.bytes)
    return HTMLResponse(part, headers=HEADERS)


def _given(tx: Tx, tenant: str, request_id: str, name: str) -> Stored:
    requests.peek(tx, tenant, request_id)
    file = timeline.files_of(tx, request_id).get(name)
    if file is None:
        raise NotFound(f"the input {name!r} of {request_id} names no file")
    title = str(file.get("name") or name)
    media = mimetypes.guess_type(title)[0] or "application/octet-stream"
    return Stored(name=title, media_type=media, uri=file["uri"], bytes=file["bytes"], sha256=file["sha256"])


async def _bytes(request: Request, file: Stored, storage_url: str) -> Response:
    safe = replace(file, media_type=served_as(file.media_type))
    answer = await anyio.to_thread.run_sync(artifacts.response, safe, storage_url, request.method, request.headers)
    answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer


def _beginning(row: Record, storage_url: str) -> tuple[str, int]:
    """As text, and of how many bytes."""
    content = artifacts.beginning(Stored.of(row), storage_url, PREVIEW_BYTES)
    return _readable(content, base_type(row.media_type), whole=row.bytes <= PREVIEW_BYTES), len(content)


def _readable(content: bytes, kind: str, *, whole: bool) -> str:
    text = content.decode("utf-8", "replace")
    if kind != "application/json" or not whole:
        return text
    try:
        return legible.pretty(json.loads(text))
    except (ValueError, RecursionError):
        return text
