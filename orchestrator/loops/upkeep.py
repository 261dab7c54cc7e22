"""Slow housekeeping: old logs and uploads go, idempotency keys are freed after a day, forgotten checkpoints are
removed."""

from __future__ import annotations

import logging
from datetime import timedelta

import fsspec

from orchestrator.loops.desk import Desk, Report
from orchestrator.store import accepting, files, leftovers, logs

log = logging.getLogger("muster.upkeep")

LOOK_BACK = timedelta(hours=1)
"""Many passes: a rank that outlives its lease may write once more after the first."""


def run_once(desk: Desk) -> Report:
    report = Report()
    pruned = desk.database.transact(lambda tx: logs.prune(tx, desk.settings.log_retention))
    freed = desk.database.transact(accepting.forget_idempotency_keys)
    report.note("pruned_logs", *([str(pruned)] if pruned else []))
    report.note("freed_keys", *([str(freed)] if freed else []))
    _remove_checkpoints(desk, report)
    _remove_files(desk, report)
    return report


def _remove_checkpoints(desk: Desk, report: Report) -> None:
    """A gang removes those of a request that it ends; one that is lost, or canceled without a gang, has nobody else."""
    for row in desk.database.transact(lambda tx: leftovers.of_requests(tx, LOOK_BACK)):
        prefix = f"{desk.settings.outputs.rstrip('/')}/{row.tenant}/{row.id}/checkpoints"
        try:
            files, root = fsspec.core.url_to_fs(prefix)
            if not files.exists(root):
                continue
            files.rm(root, recursive=True)
        except Exception as error:  # each filesystem has errors of its own; the next pass tries again
            log.warning("checkpoints of %s stay: %s", row.id, error, extra={"action": "checkpoints_stay"})
        else:
            report.note("removed_checkpoints", row.id)


def _remove_files(desk: Desk, report: Report) -> None:
    """Marked first, then the bytes, then the row: a pass that dies in between is taken up by the next."""
    for row in desk.database.transact(files.doom):
        try:
            system, path = fsspec.core.url_to_fs(row.uri)
            if system.exists(path):
                system.rm_file(path)
        except Exception as error:  # each filesystem has errors of its own; the next pass tries again
            log.warning("the file %s stays: %s", row.id, error, extra={"action": "file_stays"})
        else:
            desk.database.transact(lambda tx, file_id=row.id: files.forget(tx, file_id))  # type: ignore[misc]
            report.note("removed_files", row.id)
