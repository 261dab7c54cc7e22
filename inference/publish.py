"""Outputs: from a file in scratch to where the service said, whole or not at all, with size and sha256.

Runs on rank 0 after `run`. Knows no ranks and no HTTP; fsspec is imported only for places that are not local files.
"""

import hashlib
import mimetypes
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

BLOCK_BYTES = 1 << 20
PART_BYTES = 16 << 20
"""What is held before it is sent; S3 takes 10,000 parts of a file."""


class ArtifactMissing(Exception):
    """An output that `run` asked for does not exist or is empty: many scripts swallow the error of a failed save."""


class OutputTooLarge(Exception):
    """All outputs together are over the template's bound."""


class UploadFailed(Exception):
    """The place for outputs did not take one."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One line of a finish's `outputs`."""

    name: str
    media_type: str
    bytes: int
    sha256: str
    uri: str


class Outputs:
    """The files that an attempt promised."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._media_types: dict[str, str] = {}

    def promise(self, name: str, media_type: str | None) -> Path:
        """A path to write to. Asking twice for one name gives the same path."""
        if not name or name.startswith(".") or name != Path(name).name or "\\" in name:
            raise ValueError(f"output name {name!r} must be a plain file name")
        self._media_types[name] = media_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / name

    def publish(self, prefix: str, moved: Callable[[], None], most_bytes: int | None = None) -> list[dict[str, Any]]:
        """All of them, or an error. `moved` is called as bytes go, so that a slow upload counts as progress."""
        total = sum(self._demand(name) for name in self._media_types)
        if most_bytes is not None and total > most_bytes:
            raise OutputTooLarge(f"the outputs are {total} bytes; limits.max_output_bytes is {most_bytes}")
        return [asdict(self._publish(name, kind, prefix, moved)) for name, kind in self._media_types.items()]

    def discard(self) -> None:
        if not self._media_types:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):  # another rank of this node still has files of the attempt
            self._folder.parent.rmdir()

    def _demand(self, name: str) -> int:
        """Its size."""
        path = self._folder / name
        if not path.is_file():
            raise ArtifactMissing(f"output {name!r} was requested by ctx.output() but the file was not written")
        size = path.stat().st_size
        if size == 0:
            raise ArtifactMissing(f"output {name!r} is empty")
        return size

    def _publish(self, name: str, media_type: str, prefix: str, moved: Callable[[], None]) -> Output:
        uri = f"{prefix.rstrip('/')}/{quote(name)}"
        try:
            size, digest = put(self._folder / name, uri, moved)
        except Exception as error:  # each filesystem has errors of its own
            raise UploadFailed(f"output {name!r} could not be stored at {uri}: {error}") from error
        return Output(name=name, media_type=media_type, bytes=size, sha256=digest, uri=uri)


def put(source: Path, uri: str, moved: Callable[[], None]) -> tuple[int, str]:
    """Stores a file, whole or not at all; its size and sha256."""
    if urlsplit(uri).scheme in ("", "file"):
        return _put_file(source, Path(unquote(urlsplit(uri).path)), moved)
    from fsspec.core import url_to_fs

    system, path = url_to_fs(uri)
    with source.open("rb") as reader:
        writer = system.open(path, "wb", block_size=PART_BYTES, autocommit=False)
        try:
            told = _copy(reader, writer, moved)
            writer.close()
        except BaseException:
            _give_up(writer)
            raise
        writer.commit()
    return told


def _give_up(writer: Any) -> None:
    """What was sent is not to be seen, nor paid for."""
    with suppress(Exception):  # the storage may be what failed
        writer.discard()
    writer.closed = True  # else its end of life would send the rest


def _put_file(source: Path, target: Path, moved: Callable[[], None]) -> tuple[int, str]:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with source.open("rb") as reader, unfinished.open("wb") as writer:
            size, digest = _copy(reader, writer, moved)
            writer.flush()
            os.fsync(writer.fileno())
        unfinished.replace(target)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    _sync_folder(target.parent)
    return size, digest


def _copy(reader: IO[bytes], writer: IO[bytes], moved: Callable[[], None]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while block := reader.read(BLOCK_BYTES):
        digest.update(block)
        size += len(block)
        writer.write(block)
        moved()
    return size, digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """The name must survive a crash as well as the bytes."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
