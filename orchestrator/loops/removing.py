"""Bytes in storage that nobody wants any more. What stays is said in the log, and the next pass tries again.

It must not know why they go: whoever calls has that in the database before the first byte goes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from orchestrator import storage

log = logging.getLogger("muster.removing")


class Removal(StrEnum):
    NOTHING = "nothing"  # there was nothing
    DONE = "done"
    STAYS = "stays"


class Stays(StrEnum):
    """What the log calls it if the storage does not delete something."""

    FILE = "file_stays"
    CHECKPOINTS = "checkpoints_stay"
    PURGED = "purged_files_stay"


def file(uri: str, name: str) -> Removal:
    """One file; its name is taken as it is, whatever a shell would make of it."""
    return _remove(uri, lambda system, path: system.rm_file(path), f"the file {name}", Stays.FILE)


def folder(uri: str, what: str, stays: Stays) -> Removal:
    """A folder with all that is in it. `what` and `stays`: how the log calls it, should it stay."""
    return _remove(uri, lambda system, path: system.rm(path, recursive=True), what, stays)


def _remove(uri: str, delete: Callable[[Any, str], None], what: str, stays: Stays) -> Removal:
    try:
        system, path = storage.place(uri)
        if not system.exists(path):
            return Removal.NOTHING
        delete(system, path)
    except Exception as error:  # each filesystem has errors of its own
        log.warning("%s stays: %s", what, error, extra={"action": stays})
        return Removal.STAYS
    return Removal.DONE
