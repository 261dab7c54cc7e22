"""One owner for each folder, by `flock`: the kernel gives it back however the owner ends.

Must not know: Postgres.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from orchestrator.store.embedded.errors import EmbeddedPostgresError


class FolderLock:
    """An exclusive lock on a file that also names its holder. A pid alone would lie once it is reused."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raise EmbeddedPostgresError, naming the holder, if another owner has the folder."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
            os.close(descriptor)
            raise EmbeddedPostgresError(
                f"{self._path.parent} is in use by process {holder}: "
                "stop that process, or give this one a folder of its own"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        # The file stays: removing it would let two owners lock two files of the same name.
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
