"""Batches, items and results as the JSON that people see. Pure."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.api.views import Json, output_of, when
from orchestrator.domain.batches import eta_s
from orchestrator.domain.states import BATCH_OVER, BatchState
from orchestrator.store.batch_figures import Shown
from orchestrator.store.database import Record


def batch(shown: Shown) -> Json:
    row, progress = shown.row, shown.progress
    counts, over = progress.counts, row.state in BATCH_OVER
    rate = progress.recent / progress.recent_s if progress.recent > 0 and progress.recent_s > 0 else None
    moving = row.state == BatchState.RUNNING
    return {
        "id": row.id,
        "object": "batch",
        "version": row.version,
        "status": row.state,
        "is_terminal": over,
        "ending": row.ending if not over else None,
        "outcome": row.outcome,
        "reason": row.reason,
        "reason_code": row.reason_code,
        "template": row.template,
        "template_version": row.template_version,
        "source": row.source,
        "errors": "strict" if row.strict else "items",
        "max_parallel": row.max_parallel,
        "share_pool": row.shared,
        "max_failed": row.max_failed,
        "on_max_failed": row.on_max_failed,
        "priority": row.priority,
        "labels": row.labels,
        "counts": {
            "total": counts.items,
            "queued": counts.queued,
            "running": counts.leased,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "canceled": counts.canceled,
            "expired": counts.expired,
            "refused": counts.refused,
        },
        "gangs": progress.gangs,
        "gpu_seconds": round(progress.gpu_seconds, 3),
        "rate_per_s": round(rate, 3) if rate and moving else None,
        "eta_s": _rounded(eta_s(counts, progress.recent, progress.recent_s)) if moving else None,
        "refusals": [refusal(one) for one in shown.refusals],
        "created_at": when(row.created_at),
        "accepted_at": when(row.accepted_at),
        "started_at": when(row.started_at),
        "finished_at": when(row.finished_at),
        "expires_at": when(row.expires_at),
        "urls": _urls(row.id),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _urls(batch_id: str) -> Json:
    base = f"/v1/batches/{batch_id}"
    files = {"results": f"{base}/results.jsonl", "errors": f"{base}/errors.jsonl"}
    return {"self": base, **files, **{name: f"{base}/{name}" for name in ("items", "cancel", "pause", "resume")}}


def refusal(row: Record) -> Json:
    return {name: getattr(row, name) for name in ("line", "custom_id", "code", "message", "pointer")}


def result_line(row: Record) -> bytes:
    """An item that is over, as a line of results.jsonl."""
    return _line(
        {
            "custom_id": row.custom_id,
            "line": row.line,
            "request": row.id,
            "status": row.state,
            "result": row.value,
            "outputs": [output_of(row.id, one) for one in row.outputs],
            "error": row.error,
            "metrics": {**(row.metrics or {}), "run_s": row.run_s, "gpu_seconds": row.gpu_seconds},
        }
    )


def refused_result_line(row: Record) -> bytes:
    """A line that is no item, likewise."""
    return _line(
        {
            "custom_id": row.custom_id,
            "line": row.line,
            "request": None,
            "status": "refused",
            "result": None,
            "outputs": [],
            "error": _why(row),
            "metrics": {},
        }
    )


def error_line(row: Record) -> bytes:
    """An item that did not succeed, as a line of errors.jsonl: with its input, so that the file can be sent again."""
    sent = {"custom_id": row.custom_id, "input": row.input, "priority": row.priority, "labels": row.labels}
    bounds = {"timeout_s": row.timeout_s, "max_attempts": row.max_attempts}
    cause = row.error or {"code": row.state, "message": row.reason or ""}
    return _line({**sent, **bounds, "line": row.line, "request": row.id, "status": row.state, "error": cause})


def refused_error_line(row: Record) -> bytes:
    """A line that is no item, likewise; what it said is not kept."""
    return _line({"custom_id": row.custom_id, "line": row.line, "status": "refused", "error": _why(row)})


def _why(row: Record) -> Json:
    return {"code": row.code, "message": row.message, "pointer": row.pointer, "retryable": False}


def _line(said: Any) -> bytes:
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
