"""Serving output files from wherever fsspec finds them, with single byte ranges."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import fsspec
from fastapi.responses import Response, StreamingResponse

from orchestrator.errors import MusterError
from orchestrator.store.database import Record

_BLOCK = 1 << 20


def response(row: Record, storage_url: str, range_header: str | None) -> Response:
    """The bytes of an output. Raises MusterError `integrity` when the stored file is not what was published."""
    if not row.uri.startswith(storage_url.rstrip("/") + "/"):
        raise MusterError(f"output {row.name!r} does not lie in the storage of this service", code="integrity")
    system, path = fsspec.core.url_to_fs(row.uri)
    if not system.exists(path) or system.size(path) != row.bytes:
        raise MusterError(
            f"output {row.name!r} is not what was published: it is gone or has another size", code="integrity"
        )
    start, end = _range(range_header, row.bytes)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(max(0, end - start)),
        "Content-Disposition": f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]", "_", row.name)}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "ETag": f'"{row.sha256}"',
        "X-Checksum-Sha256": row.sha256,
    }
    if start >= end:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{row.bytes}"})
    if range_header and (start, end) != (0, row.bytes):
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{row.bytes}"
        return StreamingResponse(_read(system, path, start, end), 206, headers, media_type=row.media_type)
    return StreamingResponse(_read(system, path, start, end), 200, headers, media_type=row.media_type)


def _range(header: str | None, size: int) -> tuple[int, int]:
    """First byte and the one after the last. Several ranges, or what is no range, mean the whole."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header or "")
    if not match or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if first == "":
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _read(system: Any, path: str, start: int, end: int) -> Iterator[bytes]:
    with system.open(path, "rb") as file:
        file.seek(start)
        left = end - start
        while left > 0 and (block := file.read(min(_BLOCK, left))):
            left -= len(block)
            yield block
