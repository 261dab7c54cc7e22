"""Slow housekeeping: old logs, uploads, outputs and batches go, idempotency keys are freed after a day, forgotten
checkpoints are removed."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from orchestrator import storage
from orchestrator.loops import removing
from orchestrator.loops.desk import Desk, Report
from orchestrator.loops.removing import Removal
from orchestrator.store import (
    batch_retention,
    batches,
    claims,
    files,
    fires,
    leftovers,
    logs,
    outbox,
    outputs,
    purging,
    schedules,
)

BATCHES = 100
"""That one pass removes."""
LOOK_BACK = timedelta(hours=1)
"""Many passes: a rank that outlives its lease may write once more after the first."""


def run_once(desk: Desk) -> Report:
    report = Report()
    pruned = desk.database.transact(lambda tx: logs.prune(tx, desk.settings.log_retention))
    freed = desk.database.transact(claims.forget_idempotency_keys)
    freed += desk.database.transact(batches.forget_idempotency_keys)
    report.note("pruned_logs", *([str(pruned)] if pruned else []))
    report.note("freed_keys", *([str(freed)] if freed else []))
    forgotten = desk.database.transact(lambda tx: outbox.prune(tx, desk.settings.webhook_retention))
    report.note("forgot_deliveries", *([str(forgotten)] if forgotten else []))
    ticks = desk.database.transact(lambda tx: fires.prune(tx, schedules.now(tx)))
    report.note("forgot_ticks", *([str(ticks)] if ticks else []))
    marks = desk.database.transact(purging.forget)
    report.note("forgot_marks", *([str(marks)] if marks else []))
    _remove_batches(desk, report)
    _remove_checkpoints(desk, report)
    _remove_uploads(desk, report)
    _remove_outputs(desk, report)
    return report


def _remove_batches(desk: Desk, report: Report) -> None:
    """Each in a transaction of its own; what they left in storage goes with the marks."""
    keep = desk.settings.batch_retention
    for _ in range(BATCHES):
        gone = desk.database.transact(lambda tx: batch_retention.remove_one(tx, keep))
        if gone is None:
            return
        report.note("removed_batches", gone.id)


def _remove_checkpoints(desk: Desk, report: Report) -> None:
    """A gang removes those of a request that it ends; one that is lost, or canceled without a gang, has nobody else."""
    for row in desk.database.transact(lambda tx: leftovers.of_requests(tx, LOOK_BACK)):
        folder = f"{desk.settings.outputs.rstrip('/')}/{row.tenant}/{row.id}/checkpoints"
        if removing.folder(folder, f"checkpoints of {row.id}", removing.Stays.CHECKPOINTS) is Removal.DONE:
            report.note("removed_checkpoints", row.id)


def _remove_uploads(desk: Desk, report: Report) -> None:
    """Marked first, then the bytes, then the row: a pass that dies in between is taken up by the next."""
    for row in desk.database.transact(files.doom):
        if removing.file(row.uri, row.id) is not Removal.STAYS:
            desk.database.transact(partial(files.forget, file_id=row.id))
            report.note("removed_files", row.id)


def _remove_outputs(desk: Desk, report: Report) -> None:
    """Likewise; their rows stay."""
    for row in desk.database.transact(outputs.expire):
        if removing.file(row.uri, f"{row.request_id}/{row.name}") is not Removal.STAYS:
            _remove_empty(row.uri)
            desk.database.transact(partial(outputs.removed, request_id=row.request_id, name=row.name))
            report.note("removed_outputs", f"{row.request_id}/{row.name}")


def _remove_empty(uri: str) -> None:
    """Its attempt's folder and its request's, which are real only on disks; nobody writes there any more."""
    system, path = storage.place(uri)
    if isinstance(system, LocalFileSystem):
        with suppress(OSError):
            Path(path).parent.rmdir()
            Path(path).parent.parent.rmdir()
