"""/v1/files: uploads that requests may name in their input. Bytes go to storage as they come, never into memory."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse

from orchestrator import storage
from orchestrator.api import shapes
from orchestrator.api.auth import GuardedRoute, Here, Reader, Submitter
from orchestrator.api.contract import Answer, operation
from orchestrator.api.office import Office
from orchestrator.api.views import Json, when
from orchestrator.domain.ids import new_id
from orchestrator.errors import Invalid, MusterError, Unavailable
from orchestrator.store import files
from orchestrator.store.database import Record

router = APIRouter(prefix="/v1/files", tags=["files"], route_class=GuardedRoute)

BLOCK_BYTES = 1 << 20
FileId = Annotated[str, Path(pattern=r"^fil_[0-9a-z]{26}$", description="file ID")]
FileName = Annotated[
    str,
    Query(
        max_length=200,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. ()+,=@-]*$",
        description="what the file is called on the nodes; its suffix tells scripts what it is",
    ),
]


@router.post(
    "",
    status_code=201,
    summary="Store a file for later requests",
    **operation(
        "upload_file",
        "not_found",
        "too_large",
        "too_many_uploads",
        "unsupported_media_type",
        ok={201: Answer(means="stored", model=shapes.File, headers=("Location",))},
        body="application/octet-stream",
    ),
)
async def upload(http: Request, here: Here, identity: Submitter, name: FileName = "file") -> JSONResponse:
    """The body is the file. Give the answer's `id` where a template's input wants a file."""
    _check_head(http, here.settings.max_upload_bytes)
    with here.admission.sending(identity.tenant):
        row = await _kept(http, here, identity.tenant, name)
    return JSONResponse(_view(row), status_code=201, headers={"Location": f"/v1/files/{row.id}"})


async def _kept(http: Request, here: Office, tenant: str, name: str) -> Record:
    file_id = new_id("fil")
    uri = f"{here.settings.outputs.rstrip('/')}/{tenant}/files/{file_id}"
    await here.transact(lambda tx: files.begin(tx, file_id=file_id, tenant=tenant, name=name, uri=uri))
    try:
        size, digest = await _store(http, uri, here.settings.max_upload_bytes)
    except BaseException:
        with anyio.CancelScope(shield=True), suppress(MusterError):
            await here.transact(lambda tx: files.give_up(tx, file_id))
        raise
    keep = here.settings.upload_retention
    row = await here.transact(lambda tx: files.complete(tx, file_id, size, digest, keep))
    here.metrics.uploaded(size)
    return row


@router.get(
    "/{file_id}",
    summary="What is known of a file",
    **operation("get_file", "not_found", ok={200: Answer(means="not its bytes", model=shapes.File)}),
)
async def read(file_id: FileId, here: Here, identity: Reader) -> Any:
    return _view(await here.look(lambda tx: files.get(tx, identity.tenant, file_id)))


def _check_head(http: Request, most: int) -> None:
    if http.headers.get("content-encoding", "identity") != "identity":
        raise Invalid("compressed bodies are not accepted", code="unsupported_media_type")
    length = http.headers.get("content-length", "0")
    if re.fullmatch(r"\d{1,18}", length) and int(length) > most:
        raise _too_large(most)


async def _store(http: Request, uri: str, most: int) -> tuple[int, str]:
    """Its size and sha256. Storage that fails makes the service unavailable, not the caller wrong."""
    digest, size, block = hashlib.sha256(), 0, bytearray()
    writer = await _on_thread(lambda: storage.writing(uri))
    try:
        async for part in http.stream():
            size += len(part)
            if size > most:
                raise _too_large(most)
            block += part
            if len(block) >= BLOCK_BYTES:
                await _on_thread(lambda full=bytes(block): _write(writer, digest, full))
                block.clear()
        await _on_thread(lambda: _write(writer, digest, bytes(block)))
    finally:
        with anyio.CancelScope(shield=True):
            await _on_thread(lambda: _close(writer))
    return size, digest.hexdigest()


def _write(writer: Any, digest: Any, block: bytes) -> None:
    digest.update(block)
    writer.write(block)


def _close(writer: Any) -> None:
    """On the disk too, where there is one: the answer promises that the file is there."""
    with suppress(OSError, AttributeError, ValueError):
        writer.flush()
        os.fsync(writer.fileno())
    writer.close()


async def _on_thread(work: Any) -> Any:
    try:
        return await anyio.to_thread.run_sync(work)
    except Exception as error:  # each filesystem has errors of its own
        raise Unavailable(f"the storage does not take the file: {type(error).__name__}") from error


def _too_large(most: int) -> Invalid:
    return Invalid(f"the file is larger than {most} bytes (MUSTER_MAX_UPLOAD_BYTES)", code="too_large")


def _view(row: Record) -> Json:
    return {
        "id": row.id,
        "object": "file",
        "name": row.name,
        "bytes": row.bytes,
        "sha256": row.sha256,
        "created_at": when(row.created_at),
        "expires_at": when(row.expires_at),
    }
