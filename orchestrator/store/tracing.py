"""What spans of requests and batches are drawn from: all that was recorded of when it happened. Read-only."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text

from orchestrator.store.database import Record, Tx


def _s(column: str) -> str:
    return f"extract(epoch FROM {column})::float8"


_REQUESTS = text(f"""
SELECT r.id, r.tenant, r.template, r.template_version, r.placement, r.state, r.reason_code, r.reason, r.batch_id,
       r.retry_of, {_s("r.created_at")} AS created_s, {_s("r.finished_at")} AS finished_s,
       p.traceparent, p.tracestate, o.traceparent AS retried_parent, b.traceparent AS batch_parent,
       (SELECT coalesce(json_agg(json_build_object(
          'id', a.id, 'number', a.number, 'granted_s', {_s("a.granted_at")}, 'ended_s', {_s("a.ended_at")},
          'outcome', a.outcome, 'reason_code', a.reason_code, 'reason', a.reason, 'rank', a.rank, 'node', a.node,
          'gang', a.gang_id, 'incarnation', a.incarnation, 'mode', g.mode, 'phases', g.phases, 'trail', a.trail,
          'launched_s', {_s("g.launched_at")}, 'planned_s', {_s("g.planned_at")}, 'hello_s', {_s("g.hello_at")},
          'scheduled_s', {_s("n.scheduled_at")}, 'started_s', {_s("n.started_at")},
          'ready_s', {_s("g.ready_at")}, 'first_ready_s', {_s("g.first_ready_at")}) ORDER BY a.number), '[]')
        FROM attempt a LEFT JOIN gang g ON g.id = a.gang_id
        LEFT JOIN gang_arrival n ON n.gang_id = a.gang_id AND n.incarnation = a.incarnation
        WHERE a.request_id = r.id) AS attempts
FROM request r
LEFT JOIN payload p ON p.request_id = r.id
LEFT JOIN payload o ON o.request_id = r.retry_of
LEFT JOIN batch b ON b.id = r.batch_id
WHERE r.id = ANY(:ids) AND r.finished_at IS NOT NULL
""")
_BATCHES = text(f"""
SELECT id, tenant, template, template_version, state, outcome, items, reason_code, reason, traceparent,
       {_s("created_at")} AS created_s, {_s("finished_at")} AS finished_s
FROM batch WHERE id = ANY(:ids) AND finished_at IS NOT NULL
""")


def requests(tx: Tx, ids: Sequence[str]) -> Sequence[Record]:
    """Those that are over, each with its attempts and the gangs that these ran on; moments in seconds since 1970."""
    return tx.execute(_REQUESTS, {"ids": list(ids)}).all()


def batches(tx: Tx, ids: Sequence[str]) -> Sequence[Record]:
    """Those that are over."""
    return tx.execute(_BATCHES, {"ids": list(ids)}).all()
