"""Serving output files from wherever fsspec finds them, whole or in one range, by their sha256."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from fastapi.responses import Response, StreamingResponse

from orchestrator import storage
from orchestrator.api.parameters import matches
from orchestrator.api.problems import problem
from orchestrator.errors import MusterError, Unavailable
from orchestrator.store.database import Record

_BLOCK = 1 << 20


_MEDIA = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w.-]+)*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file of ours: where it lies, and what it must be."""

    name: str
    media_type: str
    uri: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, row: Record) -> Self:
        """An output."""
        return cls(name=row.name, media_type=row.media_type, uri=row.uri, bytes=row.bytes, sha256=row.sha256)


def response(row: Stored, storage_url: str, method: str, asked: Mapping[str, str]) -> Response:
    """The bytes of a file, or what the headers of the call make of them: a part, a 304, for HEAD none.

    Raises MusterError `integrity` when the stored file is not what was published.
    """
    tag = f'"{row.sha256}"'
    if matches(asked.get("if-none-match"), tag):
        return Response(status_code=304, headers={"ETag": tag})
    system, path = _found(row, storage_url)
    media = row.media_type if _MEDIA.fullmatch(row.media_type) else "application/octet-stream"
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(row.bytes),
        "Content-Disposition": f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]", "_", row.name)}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "ETag": tag,
        "X-Checksum-Sha256": row.sha256,
    }
    if method == "HEAD":
        return Response(headers=headers, media_type=media)
    part = _range(asked.get("range"), row.bytes) if asked.get("if-range", tag) == tag else None
    if part is None:
        return StreamingResponse(_read(system, path, 0, row.bytes), 200, headers, media_type=media)
    start, end = part
    if start >= end:
        why = f"output {row.name!r} has {row.bytes} bytes: Range asks for none of them"
        return problem(416, "range_not_satisfiable", why, headers={"Content-Range": f"bytes */{row.bytes}"})
    headers |= {"Content-Length": str(end - start), "Content-Range": f"bytes {start}-{end - 1}/{row.bytes}"}
    return StreamingResponse(_read(system, path, start, end), 206, headers, media_type=media)


def beginning(row: Stored, storage_url: str, most: int) -> bytes:
    """Its first `most` bytes, or all. Raises as `response` does."""
    system, path = _found(row, storage_url)
    return b"".join(_read(system, path, 0, min(most, row.bytes)))


def _found(row: Stored, storage_url: str) -> tuple[Any, str]:
    """The filesystem, and where in it the file lies, whole."""
    if not row.uri.startswith(storage_url.rstrip("/") + "/"):
        raise MusterError(f"output {row.name!r} does not lie in the storage of this service", code="integrity")
    try:
        system, path = storage.place(row.uri)
        size = system.info(path)["size"] if system.exists(path) else None
    except Exception as error:  # each filesystem has errors of its own
        raise Unavailable(f"the storage of output {row.name!r} does not answer: {type(error).__name__}") from error
    if size != row.bytes:
        raise MusterError(
            f"output {row.name!r} is not what was published: it is gone or has another size", code="integrity"
        )
    return system, path


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last. None, the whole: several ranges, or what is no range (RFC 9110, 14.2)."""
    match = re.fullmatch(r"(?i:bytes)=(\d{0,18})-(\d{0,18})", header or "", re.ASCII)
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size


def _read(system: Any, path: str, start: int, end: int) -> Iterator[bytes]:
    with storage.reading(system, path, end - start) as file:
        file.seek(start)
        left = end - start
        while left > 0 and (block := file.read(min(_BLOCK, left))):
            left -= len(block)
            yield block
