"""Pools as people see them, and why a request of one waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from orchestrator.store import arrivals
from orchestrator.store.database import Record, Tx

_SHOW = """
SELECT p.*, p.held_until > clock_timestamp() AS held,
       (SELECT count(*) FROM request r WHERE r.pool_id = p.id AND r.placement = 'warm' AND r.state = 'queued')
       + (SELECT count(*) FROM request r WHERE r.pool_id = p.id AND r.placement = 'batch' AND r.state = 'queued'
            AND r.batch_id IS NULL) AS queued,
       (SELECT coalesce(json_object_agg(s.state, s.n), '{}') FROM (
          SELECT CASE WHEN g.state <> 'ready' THEN g.state WHEN EXISTS (
                   SELECT FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL) THEN 'busy' ELSE 'idle' END
                 AS state, count(*) AS n
          FROM gang g
          WHERE g.pool_id = p.id AND g.state <> 'gone' GROUP BY 1) s) AS gangs,
       (SELECT count(*) FROM gang g WHERE g.pool_id = p.id AND g.mode = 'serve' AND (g.state = 'draining'
          OR g.state = 'gone' AND g.present AND g.gone_at > clock_timestamp() - interval '10 minutes')) AS ending
FROM pool p
"""


def list_current(tx: Tx, tenant: str) -> Sequence[Record]:
    return tx.execute(text(f"{_SHOW} WHERE p.tenant = :t AND p.current ORDER BY p.template"), {"t": tenant}).all()


def get(tx: Tx, pool_id: str) -> Record:
    return tx.execute(text(f"{_SHOW} WHERE p.id = :id"), {"id": pool_id}).one()


def starting_gang(tx: Tx, pool_id: str, owner: str | None) -> Record | None:
    """The gang that will be ready first: of this request or batch, or the oldest one starting in the pool."""
    return tx.execute(
        text(
            f"SELECT g.id, g.state, g.mode, g.incarnation, b.starting, g.seen_detail, {arrivals.SHOWN},"
            " extract(epoch FROM clock_timestamp() - coalesce(g.launched_at, g.planned_at)) AS for_s"
            " FROM gang g LEFT JOIN gang_beat b ON b.gang_id = g.id AND b.incarnation = g.incarnation"
            f" {arrivals.JOIN} WHERE g.state IN ('planned', 'launching', 'loading') AND g.pool_id = :p"
            " AND (CAST(:r AS text) IS NULL AND g.mode = 'serve' OR g.request_id = :r OR g.batch_id = :r)"
            " ORDER BY g.planned_at LIMIT 1"
        ),
        {"p": pool_id, "r": owner},
    ).one_or_none()


def batch_gangs(tx: Tx, pool_id: str, owner: str) -> Record:
    """`held`: gangs of batches and of single requests that hold a place; `own`: those of this batch or request."""
    return tx.execute(
        text(
            "SELECT count(*) AS held, count(*) FILTER (WHERE request_id = :r OR batch_id = :r) AS own FROM gang"
            " WHERE pool_id = :p AND mode = 'batch' AND state <> 'gone'"
        ),
        {"p": pool_id, "r": owner},
    ).one()


def last_failed_start(tx: Tx, pool_id: str) -> Record | None:
    """The newest gang of the pool that ended before it was ever ready."""
    return tx.execute(
        text(
            "SELECT id, incarnation, reason_code, reason FROM gang WHERE pool_id = :p AND state = 'gone'"
            " AND first_ready_at IS NULL ORDER BY gone_at DESC LIMIT 1"
        ),
        {"p": pool_id},
    ).one_or_none()


def forget_failed_starts(tx: Tx, pool_id: str) -> None:
    tx.execute(
        text("UPDATE pool SET failed_starts = 0, held_until = NULL, held_reason = NULL WHERE id = :p"), {"p": pool_id}
    )


def cause(tx: Tx, gang: Record) -> dict[str, Any]:
    """What the first complaining rank of a gang said, as part of a request's error."""
    row = tx.execute(
        text(
            "SELECT rank, node, phase, step, type, traceback, stacks FROM rank_error"
            " WHERE gang_id = :g AND incarnation = :i ORDER BY id LIMIT 1"
        ),
        {"g": gang.id, "i": gang.incarnation},
    ).one_or_none()
    if row is None:
        return {}
    return {name: value for name, value in row._mapping.items() if name != "stacks" or value}
