"""Rows as the JSON that people see. Pure; the only place that knows both the columns and the public names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.domain import arrival
from orchestrator.domain.states import TERMINAL, GangState, RequestState
from orchestrator.domain.webhooks import message_id
from orchestrator.store import arrivals, journal
from orchestrator.store.database import Record
from orchestrator.store.templates import spec_of

Json = dict[str, Any]


def when(moment: datetime | None) -> str | None:
    """RFC 3339, UTC, with Z."""
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def etag(row: Record) -> str:
    """Changes with every move and every beat. Weak: seconds and positions in the answer change in between."""
    return f'W/"{row.version}.{row.beats}"'


def request(row: Record, *, waiting: str | None = None, losses: Sequence[Json] = ()) -> Json:
    """One request; `waiting` says why it has not started, `losses` what went wrong in its attempts, newest first."""
    state = RequestState(row.state)
    terminal = state in TERMINAL
    return {
        "id": row.id,
        "object": "request",
        "version": row.version,
        "status": state,
        "is_terminal": terminal,
        "reason": row.reason_code,
        "template": row.template,
        "template_version": row.template_version,
        "mode": row.mode,
        "placement": {
            "kind": row.placement,
            "reason": row.placement_reason,
            "gang": row.last_gang,
            "ranks": row.world,
            "first_rank": None if row.world is None else row.slot * row.world,
        },
        "phase": row.phase if not terminal else None,
        "waiting": waiting,
        "progress": progress(row),
        "attempt": row.attempts,
        "max_attempts": row.max_attempts,
        "priority": row.priority,
        "retry_of": row.retry_of,
        "batch": row.batch_id,
        "custom_id": row.custom_id,
        "input": row.input,
        "labels": row.labels,
        "result": row.value,
        "outputs": [output_of(row.id, one) for one in row.outputs],
        "error": _error(row, losses) if state in (RequestState.FAILED, RequestState.EXPIRED) else None,
        "losses": [{**loss, "at": when(loss["at"])} for loss in losses],
        "metrics": {**(row.metrics or {}), **_seconds(row)},
        "created_at": when(row.created_at),
        "assigned_at": when(row.assigned_at),
        "started_at": when(row.started_at),
        "finished_at": when(row.finished_at),
        "urls": _urls(row.id),
    }


def _error(row: Record, losses: Sequence[Json]) -> Json | None:
    """The cause as it was recorded, and what the rank said that the record leaves out."""
    error = {key: value for key, value in (row.error or {}).items() if value is not None}
    last = next((loss for loss in losses if loss["attempt"] == row.attempts), {})
    return {**{key: last[key] for key in _CAUSE if last.get(key) not in (None, "", [])}, **error} or None


_CAUSE = ("rank", "node", "phase", "step", "type", "traceback", "log", "stacks")


def _urls(request_id: str) -> Json:
    base = f"/v1/requests/{request_id}"
    return {"self": base, **{name: f"{base}/{name}" for name in ("cancel", "events", "logs", "outputs")}}


def output_of(request_id: str, stored: Json) -> Json:
    """A published file as it is shown."""
    until = stored["expires_at"]
    return {
        **stored,
        "expires_at": when(datetime.fromisoformat(until).astimezone(UTC)) if until else None,
        "url": f"/v1/requests/{request_id}/outputs/{stored['name']}",
    }


def progress(row: Record) -> Json | None:
    if row.phase is None or row.state in ("queued", "assigned"):
        return None
    fraction = row.current / row.total if row.current is not None and row.total else None
    return {
        "phase": row.phase,
        "current": row.current,
        "total": row.total,
        "fraction": fraction,
        "eta_s": _eta(row, fraction),
        "updated_at": when(row.progress_at),
    }


def _eta(row: Record, fraction: float | None) -> float | None:
    if not fraction or row.finished_at is not None or row.running_s is None:
        return None
    return round(float(row.running_s) * (1 - fraction) / fraction, 1)


def _seconds(row: Record) -> Json:
    """Where the time went. A cold start is what this request waited for its own gang to become ready."""
    queued_until = row.assigned_at or row.finished_at
    return {
        "queue_s": (queued_until - row.created_at).total_seconds() if queued_until else None,
        "cold_start_s": round(journal.cold(row), 3),
        "run_s": row.run_s,
        "gpu_seconds": row.gpu_seconds,
    }


def event(row: Record) -> Json:
    return {"seq": row.seq, "at": when(row.at), "move": row.move, "data": row.data}


def gang_state(row: Record) -> str:
    """As shown: a ready gang is idle or busy."""
    if row.state == GangState.READY:
        return "busy" if row.serving else "idle"
    return str(row.state)


_PHASES = ("scheduling", "image", "start", "import", "rendezvous", "preflight", "setup", "warmup")


def _in_order(phase: str) -> int:
    """As a start goes through them; Postgres keeps no order."""
    return _PHASES.index(phase) if phase in _PHASES else len(_PHASES)


def gang(row: Record) -> Json:
    """One gang with its ranks and what each did last."""
    steps = {step["rank"]: step for step in row.steps or []}
    ranks = [
        {**rank, **{key: steps.get(rank["rank"], {}).get(key) for key in ("step", "rss_bytes")}} for rank in row.ranks
    ]
    idle = row.state == GangState.READY and not row.serving
    return {
        "id": row.id,
        "object": "gang",
        "name": row.name,
        "template": row.template,
        "template_version": row.version_of,
        "mode": row.mode,
        "backend": row.backend,
        "state": gang_state(row),
        "reason": row.reason,
        "reason_code": row.reason_code,
        "world": row.world,
        "nodes": row.nodes,
        "incarnation": row.incarnation,
        "ranks": ranks,
        "request": row.serving[0]["request"] if row.serving else None,
        "replicas": _replicas(row),
        "for_request": row.request_id,
        "for_batch": row.batch_id,
        "served": row.served,
        "planned_at": when(row.planned_at),
        "launched_at": when(row.launched_at),
        "scheduled_at": when(row.scheduled_at),
        "started_at": when(row.pods_started_at),
        "ready_at": when(row.ready_at),
        "idle_since": when(max(filter(None, (row.last_end, row.ready_at)))) if idle else None,
        "gone_at": when(row.gone_at),
        "launch_seconds": _launch_seconds(row),
        "link": row.phases.get("link"),
    }


def _launch_seconds(row: Record) -> dict[str, float]:
    """Of each phase of the start of this incarnation; how its pods came is told of the first."""
    said = {name: row.phases[name] for name in sorted(row.phases, key=_in_order) if name != "link"}
    came = arrivals.of(row)
    if came is None or row.incarnation != 1 or not said:
        return said
    return {**arrival.to_first_line(row.launched_at, came, row.hello_at, said), **said}


def _replicas(row: Record) -> list[Json]:
    """The parts of a gang that run requests of their own."""
    serving = {one["slot"]: one["request"] for one in row.serving}
    size = row.world // row.replicas
    return [
        {"number": number, "first_rank": number * size, "ranks": size, "request": serving.get(number)}
        for number in range(row.replicas)
    ]


def template(row: Record) -> Json:
    """The current version of a template: its content and where it stands."""
    return {
        "name": row.template,
        "object": "template",
        "version": row.version,
        "created_at": when(row.created_at),
        "spec": spec_of(row),
    }


def pool(row: Record, gangs: dict[str, int], queued: int) -> Json:
    return {
        "name": row.template,
        "object": "pool",
        "template": row.template,
        "template_version": row.version,
        "min": row.min_gangs,
        "max": row.max_gangs,
        "idle_timeout_s": row.idle_timeout_s,
        "queued": queued,
        "gangs": gangs,
        "held": row.held_reason if row.held else None,
    }


def token(row: Record) -> Json:
    return {
        "id": row.id,
        "object": "token",
        "name": row.name,
        "scopes": row.scopes,
        "created_at": when(row.created_at),
        "expires_at": when(row.expires_at),
        "revoked_at": when(row.revoked_at),
    }


def webhook(row: Record) -> Json:
    """Without its secret. `request`: the one whose hook it is; None hears all of the tenant."""
    return {
        "id": row.id,
        "object": "webhook",
        "url": row.url,
        "events": row.events,
        "request": row.hears if row.hears.startswith("req_") else None,
        "enabled": row.disabled_at is None,
        "disabled_reason": row.disabled,
        "disabled_at": when(row.disabled_at),
        "created_at": when(row.created_at),
    }


def delivery(row: Record) -> Json:
    """One message to one webhook; `last_*` tell of the last try."""
    return {
        "id": message_id(row.subject, row.seq),
        "object": "delivery",
        "webhook": row.webhook_id,
        "type": row.type,
        "subject": row.subject,
        "version": row.seq,
        "status": row.status,
        "more": row.more,
        "state": row.state,
        "tries": row.tries,
        "at": when(row.at),
        "next_try_at": when(row.next_at),
        "last_try_at": when(row.last_at),
        "last_status": row.last_status,
        "last_error": row.last_error,
    }
