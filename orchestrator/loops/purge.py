"""Files of requests that were deleted: what a request wrote lies in a folder of its own, which goes as a whole."""

from __future__ import annotations

from functools import partial

from orchestrator.loops import removing
from orchestrator.loops.desk import Desk, Report
from orchestrator.loops.removing import Removal
from orchestrator.store import purging


def run_once(desk: Desk) -> Report:
    """The mark is in the database before the first file goes: a pass that dies is taken up by the next."""
    report = Report()
    storage = desk.settings.outputs.rstrip("/")
    for row in desk.database.transact(lambda tx: purging.removable(tx, storage)):
        whole = removing.folder(f"{storage}/{row.tenant}/{row.id}", f"the files of {row.id}", removing.Stays.PURGED)
        if whole is not Removal.STAYS:
            desk.database.transact(partial(purging.removed, request_id=row.id))
            report.note("purged", row.id)
    return report
