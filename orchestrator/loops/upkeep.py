"""Slow housekeeping: old logs go, idempotency keys are freed after a day, checkpoints that nobody removed are."""

from __future__ import annotations

import logging
from datetime import timedelta

import fsspec

from orchestrator.loops.desk import Desk, Report
from orchestrator.store import accepting, leftovers, logs

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
