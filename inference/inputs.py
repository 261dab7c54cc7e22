"""Files that a request names: from storage to this node, once, verified, and kept for later requests.

One folder per node, one per content in it. What was used longest ago goes first when the folder is over its bound;
what the request at hand names never goes. Knows no ranks: who fetches and who waits is the context's affair.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import quote, unquote, urlsplit

BLOCK_BYTES = 1 << 20
READ_AHEAD_BYTES = 16 << 20
_SEALED = 0  # a cached file's time of change: whoever writes to it later breaks the seal


class InputMissing(Exception):
    """The storage has no such file."""


class InputCorrupt(Exception):
    """What the storage gave is not what was uploaded."""


class DownloadFailed(Exception):
    """The storage did not give the file."""


class BrokenOff(Exception):
    """The request is over before its files came."""


@dataclass(frozen=True, kw_only=True)
class File:
    name: str
    uri: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, said: dict[str, Any]) -> Self:
        return cls(name=Path(said["name"]).name or "file", uri=said["uri"], bytes=said["bytes"], sha256=said["sha256"])


class Inputs:
    """The files of this node."""

    def __init__(self, scratch: Path, node: str, most_bytes: int) -> None:
        self._folder = scratch / "inputs" / quote(node, safe="")
        self._most_bytes = most_bytes

    def path(self, file: File) -> Path:
        """Where it lies, on every rank of the node. Not to be written to."""
        return self._folder / file.sha256 / file.name

    def fetch(self, files: Iterable[File], moved: Callable[[], None]) -> None:
        """All of them, or an error. `moved` is called as bytes come, and may raise."""
        wanted = {self.path(file): file for file in files}
        for path, file in wanted.items():
            if not _is_whole(path, file):
                self._make_room(file.bytes, {path.parent for path in wanted})
                _fetch(file, path, moved)
            os.utime(path.parent)

    def _make_room(self, size: int, kept: set[Path]) -> None:
        held = {folder: _bytes_in(folder) for folder in self._folder.glob("*")}
        total = sum(held.values()) + size
        for folder in sorted(held.keys() - kept, key=lambda folder: folder.stat().st_mtime):
            if total <= self._most_bytes:
                return
            shutil.rmtree(folder, ignore_errors=True)
            total -= held[folder]


def _is_whole(path: Path, file: File) -> bool:
    """It was verified when it came, and nobody has written to it since."""
    with suppress(OSError):
        found = path.stat()
        return found.st_size == file.bytes and found.st_mtime_ns == _SEALED
    return False


def _fetch(file: File, path: Path, moved: Callable[[], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(".*.part"):  # by a rank that died
        left.unlink(missing_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as writer, _opened(file) as reader:
            size, digest = _copy(reader, writer, file, moved)
        if (size, digest) != (file.bytes, file.sha256):
            raise InputCorrupt(
                f"{file.name!r} at {file.uri} is {size} bytes with sha256 {digest};"
                f" {file.bytes} bytes with sha256 {file.sha256} were stored"
            )
        part.chmod(0o444)
        os.utime(part, ns=(_SEALED, _SEALED))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _opened(file: File) -> IO[bytes]:
    try:
        if urlsplit(file.uri).scheme in ("", "file"):
            return Path(unquote(urlsplit(file.uri).path)).open("rb")
        from fsspec.core import url_to_fs

        system, path = url_to_fs(file.uri)
        opened: IO[bytes] = system.open(path, "rb", block_size=READ_AHEAD_BYTES)
        return opened
    except FileNotFoundError:
        raise InputMissing(f"{file.name!r} is not at {file.uri}: upload it again") from None
    except Exception as error:  # each filesystem has errors of its own
        raise DownloadFailed(f"{file.name!r} at {file.uri} cannot be opened: {error}") from error


def _copy(reader: IO[bytes], writer: IO[bytes], file: File, moved: Callable[[], None]) -> tuple[int, str]:
    """No more than a block beyond what was promised."""
    digest, size = hashlib.sha256(), 0
    while size <= file.bytes and (block := _read(reader, file)):
        digest.update(block)
        size += len(block)
        writer.write(block)
        moved()
    return size, digest.hexdigest()


def _read(reader: IO[bytes], file: File) -> bytes:
    try:
        return reader.read(BLOCK_BYTES)
    except Exception as error:  # each filesystem has errors of its own
        if isinstance(error, OSError) and error.errno == errno.ENOENT:
            raise InputMissing(f"{file.name!r} is not at {file.uri}: upload it again") from None
        raise DownloadFailed(f"{file.name!r} at {file.uri} cannot be read: {error}") from error


def _bytes_in(folder: Path) -> int:
    total = 0
    with suppress(OSError):
        total = sum(path.stat().st_size for path in folder.iterdir())
    return total
