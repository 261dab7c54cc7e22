"""Schedules and their ticks as the JSON that people see. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from orchestrator.api.views import Json, when
from orchestrator.domain.schedules import Policy
from orchestrator.store.database import Record


def schedule(row: Record, now: datetime, last: Record | None) -> Json:
    """`last`: the newest of its ticks."""
    policy = Policy.model_validate(row.policy)
    base = f"/v1/schedules/{row.id}"
    return {
        "id": row.id,
        "object": "schedule",
        "name": row.name,
        "version": row.version,
        "state": _state(row),
        **policy.model_dump(),
        "runs": {kind: _without_url(order) for kind, order in row.runs.items()},
        "next_fires": next_fires(row, now),
        "last_fire": fire(last) if last is not None else None,
        "created_at": when(row.created_at),
        "updated_at": when(row.updated_at),
        "urls": {"self": base, **{name: f"{base}/{name}" for name in ("fires", "trigger", "pause", "resume")}},
    }


def _without_url(order: Json) -> Json:
    """Readers see it, and the URL of a webhook is often a credential."""
    if not order.get("webhook"):
        return order
    return {**order, "webhook": {**order["webhook"], "url": "hidden"}}


def _state(row: Record) -> str:
    if row.ended_at is not None:
        return "ended"
    return "paused" if row.paused_at is not None else "active"


def next_fires(row: Record, now: datetime) -> Sequence[str | None]:
    """By the rule; a paused schedule skips them."""
    return [when(tick) for tick in Policy.model_validate(row.policy).next(now)]


def fire(row: Record) -> Json:
    return {
        "tick": when(row.tick),
        "due_at": when(row.due_at),
        "state": row.state,
        "reason_code": row.reason_code,
        "reason": row.reason,
        "triggered": row.triggered,
        "version": row.version,
        "request": row.request_id,
        "batch": row.batch_id,
        "decided_at": when(row.decided_at),
    }
