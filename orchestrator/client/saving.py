"""Bytes from the service to a file: harmless name, checked size and sha256, in place all at once or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.errors import MusterError

LONGEST_NAME_BYTES = 200


class Incomplete(MusterError):
    """What arrived is not what was promised; asking again may help."""

    code = "incomplete_download"


def safe_name(name: str) -> str:
    """A name for a file in the folder we chose: no path, no dotfile, nothing that a terminal would obey."""
    plain = "".join(
        "_" if one in "/\\:" or (unicodedata.category(one)[0] in "CZ" and one != " ") else one for one in name
    )
    while len(plain.encode("utf-8", "replace")) > LONGEST_NAME_BYTES:
        plain = plain[:-1]
    plain = plain.strip()
    if plain.startswith((".", "-")):
        plain = "_" + plain[1:]
    return plain or "output"


def save(chunks: Iterable[bytes], path: Path, *, size_bytes: int | None, sha256: str | None) -> None:
    """Writes next to `path`, checks, then renames over it. Raises Incomplete and leaves nothing behind."""
    with _temporary(path) as (handle, temporary):
        digest = hashlib.sha256()
        written = 0
        for chunk in chunks:
            written += len(chunk)
            if size_bytes is not None and written > size_bytes:
                break
            digest.update(chunk)
            handle.write(chunk)
        _check(path.name, written, size_bytes, digest.hexdigest(), sha256)
        handle.flush()
        os.fsync(handle.fileno())
        temporary.replace(path)


def _check(name: str, written: int, size_bytes: int | None, digest: str, sha256: str | None) -> None:
    if size_bytes is not None and written != size_bytes:
        raise Incomplete(f"{name}: {written} bytes came, {size_bytes} were promised")
    if sha256 is not None and digest != sha256.lower():
        raise Incomplete(f"{name}: sha256 is {digest}, promised was {sha256}")


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[tempfile._TemporaryFileWrapper[bytes], Path]]:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".muster-", suffix=".part", delete=False) as handle:
        temporary = Path(handle.name)
        try:
            temporary.chmod(0o666 & ~_umask())
            yield handle, temporary
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
