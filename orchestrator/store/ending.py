"""The end of a lease, in one statement: the attempt's row, its request's move, event, result, usage; or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause

from orchestrator.domain.states import REQUEST_MOVES, Outcome, Reason
from orchestrator.errors import StaleLease
from orchestrator.store import journal, outbox, requests, trails
from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared
from orchestrator.store.trails import Trail


@dataclass(frozen=True, kw_only=True)
class End:
    """How an attempt ended, for its own row."""

    outcome: Outcome
    reason: Reason | None = None
    why: str | None = None
    rank: int | None = None
    node: str | None = None
    run_s: float | None = None
    digest: bytes = b""
    value: Any = None
    error: Mapping[str, Any] | None = None
    metrics: Mapping[str, float] | None = None
    trail: Trail | None = None


CLOSED = (
    "finished_at = clock_timestamp(), next_check_at = NULL, started_at = coalesce(r.started_at,"
    " greatest(r.assigned_at, clock_timestamp() - e.run_s * interval '1 second'))"
)
TALLIED = """, tallied AS (
  INSERT INTO batch_tally (batch_id, state, items, run_s, gpu_seconds)
  SELECT m.batch_id, m.state, 1, m.run_s, u.gpu_seconds FROM moved m JOIN used u ON u.request_id = m.id
  WHERE m.batch_id IS NOT NULL
)"""
"""Of items that ended (`moved`, with what they `used`): counted for their batch."""


def publishing(ended: str, outputs: str) -> str:
    """SQL that records what requests published. Arguments are SQL: rows `m` of those that ended, the list of each."""
    return f"""
  INSERT INTO output (request_id, name, media_type, bytes, sha256, uri, expires_at)
  SELECT m.id, o.name, o.media_type, o.bytes, o.sha256, o.uri, m.finished_at + m.output_ttl_s * interval '1 second'
  FROM {ended} CROSS JOIN LATERAL json_to_recordset({outputs})
    AS o (name text, media_type text, bytes bigint, sha256 text, uri text)"""


_END_ATTEMPT = f"""
  UPDATE attempt SET ended_at = clock_timestamp(), outcome = :outcome, reason_code = :code, reason = :reason,
         rank = :rank, node = :node, trail = coalesce({trails.GIVEN}, trail),
         run_s = coalesce(:run_s, extract(epoch FROM clock_timestamp() - started_at), 0)
  WHERE id = :attempt AND token = :token AND ended_at IS NULL
  RETURNING request_id, run_s"""


def _ending(move: str, assignments: str, more: str = "") -> TextClause:
    """End the lease, move its request, write the event: one statement, or nothing."""
    return prepared(f"""
WITH ended AS ({_END_ATTEMPT}
), moved AS (
  UPDATE request r SET state = :target, reason_code = :code, reason = :reason, gang_id = NULL,
         crashes = crashes + :crashed, version = version + 1, {assignments}
  FROM ended e WHERE r.id = e.request_id AND r.state = ANY(:guard)
  RETURNING r.*, e.run_s
), logged AS (
  INSERT INTO event (subject, seq, move, data) SELECT id, version, '{move}', {requests.FOLD} FROM moved
){more}
SELECT * FROM moved""")


_STORED = (
    f"""{outbox.REQUEST_MOVED}, stored AS (
  INSERT INTO result (request_id, attempt_id, outcome, value, error, metrics, digest)
  SELECT id, :attempt, state, CAST(:value AS jsonb), CAST(:error AS jsonb), CAST(:metrics AS jsonb), :digest FROM moved
), used AS (
  INSERT INTO usage (request_id, tenant, pool_id, attempts, ranks, run_s, gpu_seconds)
  SELECT m.id, m.tenant, m.pool_id, m.attempts, :ranks, m.run_s,
         m.run_s * :ranks * coalesce((s.spec ->> 'gpus_per_rank')::float8, 1)
  FROM moved m JOIN pool s ON s.id = m.pool_id
  RETURNING request_id, gpu_seconds
)"""
    + TALLIED
)
_TERMINATE = {move: _ending(move, CLOSED, _STORED) for move in ("succeed", "fail", "end_cancel")}
_RETRY = _ending(
    "retry",
    "run_at = clock_timestamp() + :pause * interval '1 second',"
    " next_check_at = clock_timestamp() + interval '60 seconds'",
)


def end(
    tx: Tx,
    row: Record,
    move: str,
    told: End,
    *,
    crashed: int = 0,
    pause_s: float = 0.0,
    lost: Reason | None = None,
) -> None:
    """Make the move of this lease (a row with its attempt, gang and request, locked). Raises StaleLease."""
    moved = tx.execute(
        _RETRY if move == "retry" else _TERMINATE[move],
        {
            "attempt": row.attempt_id,
            "token": row.token,
            "outcome": told.outcome,
            "code": told.reason,
            "reason": told.why,
            "rank": told.rank,
            "node": told.node,
            "run_s": told.run_s,
            "target": REQUEST_MOVES[move].target,
            "guard": REQUEST_MOVES[move].guard,
            "crashed": crashed,
            "pause": pause_s,
            "ranks": row.ranks,
            "value": None if told.value is None else json.dumps(told.value),
            "error": None if told.error is None else json.dumps(told.error),
            "metrics": json.dumps(told.metrics or {}),
            "digest": told.digest,
            **trails.given(told.trail),
        },
    ).one_or_none()
    if moved is None:
        raise StaleLease(f"the lease of attempt {row.attempt_id} is over")
    journal.request(
        tx,
        move,
        moved,
        gang=row.lease_gang,
        attempt=row.attempt_id,
        incarnation=row.lease_incarnation,
        seconds=moved.run_s,
        gpu_seconds=moved.run_s * row.ranks * row.gpus_per_rank,
        lost=lost,
    )
