"""The way that nearly every report takes: gangs succeed, and those that report together share one statement.

Same moves, same guards, same events as in `attempts`. Whatever is not the usual case is left to it: a report that has
no row in the answer has changed nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.states import REQUEST_MOVES, Outcome
from orchestrator.store import journal, outbox, requests, trails
from orchestrator.store.attempts import Finish
from orchestrator.store.database import Record, Tx
from orchestrator.store.ending import CLOSED, TALLIED, publishing
from orchestrator.store.prepared import prepared
from orchestrator.store.scheduling import may_lend


@dataclass(frozen=True, kw_only=True)
class Report:
    """A gang's word on its attempt."""

    attempt: str
    session_hash: bytes
    finish: Finish


@dataclass(frozen=True, kw_only=True)
class Freed:
    """A gang whose attempt succeeded. `pool`: where it takes its next request; None if it takes none by itself."""

    request: str
    gang: str
    slot: int
    incarnation: int
    pool: str | None
    due: bool
    """Somebody waited for a gang of the pool a moment ago."""
    shown: Record | None
    """The whole request, as `requests.get` reads it, if it is watched."""


_SUCCEED = prepared(f"""
WITH told AS MATERIALIZED (
  SELECT * FROM json_to_recordset(CAST(:told AS json)) AS t (attempt text, token text, session text, run_s float8,
    value jsonb, metrics jsonb, digest text, outputs json, phases jsonb, elapsed_s float8)
), found AS MATERIALIZED (
  SELECT a.id, a.request_id, a.gang_id, a.slot, a.granted_at, g.incarnation, g.world / g.replicas AS world,
         g.pool_id, g.first_ready_at, g.launched_at, g.mode = 'serve' AND g.state = 'ready' AS free
  FROM told t JOIN attempt a ON a.id = t.attempt JOIN request r ON r.id = a.request_id JOIN gang g ON g.id = a.gang_id
  WHERE a.token = t.token AND a.ended_at IS NULL AND r.state = ANY(:guard)
    AND g.incarnation = a.incarnation AND g.session_hash = decode(t.session, 'hex')
  FOR UPDATE OF a, r
), ended AS (
  UPDATE attempt a SET ended_at = clock_timestamp(), outcome = 'succeeded', run_s = t.run_s,
         trail = coalesce({trails.kept("t.phases", "t.elapsed_s")}, a.trail)
  FROM found f JOIN told t ON t.attempt = f.id WHERE a.id = f.id AND a.token = t.token AND a.ended_at IS NULL
  RETURNING a.id AS attempt, a.request_id, a.run_s
), moved AS (
  UPDATE request r SET state = 'succeeded', reason_code = NULL, reason = NULL, gang_id = NULL, version = version + 1,
         {CLOSED}
  FROM ended e WHERE r.id = e.request_id AND r.state = ANY(:guard) RETURNING r.*, e.attempt, e.run_s
), logged AS (
  INSERT INTO event (subject, seq, move, data) SELECT id, version, 'succeed', {requests.FOLD} FROM moved
){outbox.REQUEST_MOVED}, stored AS (
  INSERT INTO result (request_id, attempt_id, outcome, value, error, metrics, digest)
  SELECT m.id, m.attempt, m.state, t.value, NULL, coalesce(t.metrics, '{{}}'), decode(t.digest, 'hex')
  FROM moved m JOIN told t USING (attempt)
), used AS (
  INSERT INTO usage (request_id, tenant, pool_id, attempts, ranks, run_s, gpu_seconds)
  SELECT m.id, m.tenant, m.pool_id, m.attempts, f.world, m.run_s,
         m.run_s * f.world * coalesce((s.spec ->> 'gpus_per_rank')::float8, 1)
  FROM moved m JOIN found f ON f.id = m.attempt JOIN pool s ON s.id = m.pool_id
  RETURNING request_id, gpu_seconds
){TALLIED}, published AS ({publishing("moved m JOIN told t USING (attempt)", "t.outputs")}
  RETURNING *
)
SELECT m.*, f.gang_id AS last_gang, f.slot, f.incarnation, f.world, f.granted_at, f.first_ready_at, f.launched_at,
       f.free,
       f.free AND EXISTS (SELECT FROM request q WHERE q.pool_id = f.pool_id AND q.placement = 'warm'
                          AND q.state = 'queued') OR f.free AND {may_lend("f.pool_id")} AS due,
       p.request_id IS NOT NULL AS watched, p.input, p.labels, t.value, coalesce(t.metrics, '{{}}') AS metrics,
       u.gpu_seconds,
       NULL AS error, NULL AS phase, NULL AS current, NULL AS total, NULL AS progress_at, NULL AS running_s,
       0 AS beats,
       {requests.outputs_as_json("published o WHERE o.request_id = m.id")} AS outputs
FROM moved m JOIN told t USING (attempt) JOIN found f ON f.id = m.attempt JOIN used u ON u.request_id = m.id
LEFT JOIN payload p ON p.request_id = m.id AND m.id = ANY(:watching)
""")


def succeed(tx: Tx, reports: Sequence[Report], watching: Sequence[str] = ()) -> dict[str, Freed]:
    """All checks and all writes of successes, by attempt. `watching`: requests that somebody waits for.

    Not in the answer: some check failed, and `attempts.finish` says which.
    """
    told = {report.attempt: report for report in reports}
    values = {
        "told": json.dumps([_told(report) for report in told.values()]),
        "watching": list(watching),
        "guard": REQUEST_MOVES["succeed"].guard,
    }
    rows = tx.execute(_SUCCEED, values).all()
    for row in rows:
        journal.request(
            tx,
            "succeed",
            row,
            gang=row.last_gang,
            attempt=row.attempt,
            incarnation=row.incarnation,
            seconds=row.run_s,
            gpu_seconds=row.gpu_seconds,
            cold_s=journal.cold(row),
        )
    return {row.attempt: _freed(row) for row in rows}


def may_succeed(report: Finish) -> bool:
    """Whether it is worth a try here."""
    return report.healthy and report.outcome is Outcome.SUCCEEDED


def _freed(row: Record) -> Freed:
    return Freed(
        request=row.id,
        gang=row.last_gang,
        slot=row.slot,
        incarnation=row.incarnation,
        pool=row.pool_id if row.free else None,
        due=row.due,
        shown=row if row.watched else None,
    )


def _told(report: Report) -> dict[str, Any]:
    finish = report.finish
    return {
        "attempt": report.attempt,
        "token": finish.token,
        "session": report.session_hash.hex(),
        "run_s": finish.run_s,
        "value": finish.value,
        "metrics": dict(finish.metrics or {}),
        "digest": finish.digest.hex(),
        "outputs": list(finish.outputs),
        **trails.plain(finish.trail),
    }
