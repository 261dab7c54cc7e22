"""Files of requests that were deleted: what a request wrote lies in a folder of its own, which goes as a whole."""

from __future__ import annotations

import logging
from functools import partial

import fsspec

from orchestrator.loops.desk import Desk, Report
from orchestrator.store import purging

log = logging.getLogger("muster.purge")


def run_once(desk: Desk) -> Report:
    """The mark is in the database before the first file goes: a pass that dies is taken up by the next."""
    report = Report()
    storage = desk.settings.outputs.rstrip("/")
    for row in desk.database.transact(lambda tx: purging.removable(tx, storage)):
        if _remove(f"{storage}/{row.tenant}/{row.id}", row.id):
            desk.database.transact(partial(purging.removed, request_id=row.id))
            report.note("purged", row.id)
    return report


def _remove(folder: str, request_id: str) -> bool:
    """Whether nothing is left; if not, the next pass tries again."""
    try:
        system, path = fsspec.core.url_to_fs(folder)
        if system.exists(path):
            system.rm(path, recursive=True)
    except Exception as error:  # each filesystem has errors of its own
        log.warning("the files of %s stay: %s", request_id, error, extra={"action": "purged_files_stay"})
        return False
    return True
