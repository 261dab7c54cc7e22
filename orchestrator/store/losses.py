"""What went wrong in a request's attempts, as its ranks said it: cause, stacks, last lines. Read-only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from orchestrator.store.database import Tx

LAST_LINES = 20
_LOG_BYTES = 16 << 10

_LOST = text("""
SELECT a.number, a.gang_id, a.outcome, a.reason_code, a.reason, a.rank, a.node, a.ended_at,
       e.rank AS cause_rank, e.node AS cause_node, e.phase, e.step, e.type, e.message, e.traceback, e.stacks,
       (SELECT right(string_agg(c.body, '' ORDER BY c.seq), :bytes) FROM
          (SELECT l.body, l.seq FROM log_chunk l WHERE l.request_id = a.request_id AND l.gang_id = a.gang_id
           AND l.incarnation = a.incarnation AND l.rank = coalesce(e.rank, a.rank)
           ORDER BY l.seq DESC LIMIT 8) c) AS log
FROM attempt a LEFT JOIN LATERAL
  (SELECT * FROM rank_error r WHERE r.gang_id = a.gang_id AND r.incarnation = a.incarnation
   AND (r.attempt_id = a.id OR r.attempt_id IS NULL AND r.at BETWEEN a.granted_at AND a.ended_at)
   ORDER BY r.id LIMIT 1) e ON true
WHERE a.request_id = :request AND a.outcome IN ('failed', 'lost') ORDER BY a.number DESC LIMIT 20
""")


def of_request(tx: Tx, request_id: str) -> list[dict[str, Any]]:
    """The attempts that failed or were lost, newest first, each with what its root cause said."""
    rows = tx.execute(_LOST, {"request": request_id, "bytes": _LOG_BYTES}).all()
    return [
        {
            "attempt": row.number,
            "gang": row.gang_id,
            "reason": row.reason_code,
            "message": row.reason,
            "rank": row.rank if row.cause_rank is None else row.cause_rank,
            "node": row.node or row.cause_node,
            "phase": row.phase,
            "step": row.step,
            "type": row.type,
            "traceback": row.traceback,
            "log": "\n".join((row.log or "").splitlines()[-LAST_LINES:]),
            "stacks": row.stacks or [],
            "at": row.ended_at,
        }
        for row in rows
    ]
