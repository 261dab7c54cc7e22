"""The one door to where files lie: disks, buckets, whatever fsspec knows. Knows no tenants and no database.

What is listed here is never remembered: gangs and other replicas write to the same places.
"""

from __future__ import annotations

from typing import IO, Any
from urllib.parse import unquote

import fsspec

from orchestrator.errors import Invalid

_FILE = "file://"
BLOCK_BYTES = 8 << 20
"""What is read ahead, and what is sent at a time; fsspec's 50 MB would be held for every open file."""


def require(variable: str, uri: str) -> None:
    """Raises Invalid where this installation lacks the package that speaks to such storage."""
    protocol = uri.partition("://")[0] if "://" in uri else "file"
    try:
        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise Invalid(f"{variable}={uri}: {error}; for s3:// it is `pip install 'muster-orchestrator[s3]'`") from None


def place(uri: str) -> tuple[Any, str]:
    """The filesystem, and the path in it. Raises Invalid for what would lead out of its folder.

    Names in a `file:` URI are quoted, as gangs and Python write them; fsspec would take them as they stand, and `::`
    for a chain of URIs. The keys of buckets are what stands there.
    """
    if uri.startswith(_FILE):
        if leads_away(uri):
            raise Invalid(f"{uri} leads out of its folder")
        return fsspec.filesystem("file"), unquote(uri.removeprefix(_FILE))
    system, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    return system, path


def leads_away(uri: str) -> bool:
    """Whether a step of it goes up, also where that is spelt in another way."""
    return ".." in unquote(uri).split("/")


def reading(system: Any, path: str, most: int | None = None) -> IO[bytes]:
    """An open file; `most`: how many of its bytes are wanted, where that is known."""
    block = BLOCK_BYTES if most is None else max(1, min(BLOCK_BYTES, most))
    opened: IO[bytes] = system.open(path, "rb", block_size=block)
    return opened


def writing(uri: str) -> IO[bytes]:
    """A new file. A folder is made where there must be one; buckets have none and are never made."""
    system, path = place(uri)
    try:
        opened: IO[bytes] = system.open(path, "wb", block_size=BLOCK_BYTES)
    except FileNotFoundError:
        system.makedirs(system._parent(path), exist_ok=True)
        opened = system.open(path, "wb", block_size=BLOCK_BYTES)
    return opened
