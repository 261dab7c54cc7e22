"""Slow housekeeping: old logs go, idempotency keys are freed after a day."""

from __future__ import annotations

from orchestrator.loops.desk import Desk, Report
from orchestrator.store import logs, requests


def run_once(desk: Desk) -> Report:
    report = Report()
    pruned = desk.database.transact(lambda tx: logs.prune(tx, desk.settings.log_retention))
    freed = desk.database.transact(requests.forget_idempotency_keys)
    report.note("pruned_logs", *([str(pruned)] if pruned else []))
    report.note("freed_keys", *([str(freed)] if freed else []))
    return report
