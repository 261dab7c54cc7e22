"""Requests: recorded, read, and moved while no attempt lives. One function per move, its event in the statement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from orchestrator.domain.states import REQUEST_MOVES, TERMINAL, Reason, RequestState
from orchestrator.errors import Conflict, NotFound
from orchestrator.store import journal, outbox
from orchestrator.store.database import Record, Tx, logged
from orchestrator.store.prepared import prepared

FOLD = (
    "jsonb_build_object('state', state, 'reason_code', reason_code, 'reason', reason, 'gang', gang_id,"
    " 'attempts', attempts, 'crashes', crashes)"
)
"""What every event of a request says: the row equals its last event (I15)."""

HARD_CANCEL = timedelta(seconds=45)
"""From an accepted cancel to the end of a gang that does not stop; with the clock's step under a minute (I11)."""


def outputs_as_json(source: str) -> str:
    """The outputs `o` of one request as an SQL expression; `source`: what stands after FROM."""
    return (
        "(SELECT coalesce(json_agg(json_build_object('name', o.name, 'media_type', o.media_type, 'bytes', o.bytes,"
        " 'sha256', o.sha256, 'expires_at', o.expires_at, 'expired', o.expired) ORDER BY o.name), '[]')"
        f" FROM {source})"
    )


VIEW = f"""
SELECT r.*, p.input, p.labels, s.spec ->> 'nodes' AS nodes,
       g.phase, g.current, g.total, g.updated_at AS progress_at, coalesce(g.beats, 0) AS beats,
       extract(epoch FROM clock_timestamp() - r.started_at) AS running_s,
       extract(epoch FROM clock_timestamp() - r.finished_at) AS ended_s,
       t.value, t.error, t.metrics, u.run_s, u.gpu_seconds, k.world / k.replicas AS world, a.slot, k.mode AS gang_mode,
       a.gang_id AS last_gang, a.granted_at, k.first_ready_at, k.launched_at,
       {outputs_as_json("output o WHERE o.request_id = r.id")} AS outputs
FROM request r
JOIN payload p ON p.request_id = r.id
JOIN pool s ON s.id = r.pool_id
LEFT JOIN progress g ON g.request_id = r.id
LEFT JOIN result t ON t.request_id = r.id
LEFT JOIN usage u ON u.request_id = r.id
LEFT JOIN attempt a ON a.request_id = r.id AND a.number = r.attempts
LEFT JOIN gang k ON k.id = a.gang_id
"""
_GET = prepared(f"{VIEW} WHERE r.id = :id AND r.tenant = :tenant")
_PEEK = prepared("SELECT state, version FROM request WHERE id = :id AND tenant = :tenant")


def get(tx: Tx, tenant: str, request_id: str) -> Record:
    """Everything that is shown of one request. Raises NotFound, also for another tenant's."""
    row = tx.execute(_GET, {"id": request_id, "tenant": tenant}).one_or_none()
    if row is None:
        raise missing(tx, tenant, request_id)
    return row


def missing(tx: Tx, tenant: str, request_id: str) -> NotFound:
    """Why there is no such request: its tenant deleted it, or it never was."""
    query = text("SELECT 1 FROM purged WHERE id = :id AND tenant = :tenant")
    if tx.execute(query, {"id": request_id, "tenant": tenant}).one_or_none() is not None:
        return NotFound(f"request {request_id} was deleted", code="purged")
    return NotFound(f"no request {request_id!r}")


def peek(tx: Tx, tenant: str, request_id: str) -> RequestState:
    """Only the state: what a parked wait looks at first."""
    row = tx.execute(_PEEK, {"id": request_id, "tenant": tenant}).one_or_none()
    if row is None:
        raise missing(tx, tenant, request_id)
    return RequestState(row.state)


_AHEAD = text(
    "SELECT count(*) FROM (SELECT 1 FROM request WHERE state = 'queued' AND pool_id = :pool AND placement = :placement"
    " AND batch_id IS NULL AND (due_at, id) < (:due, :id) LIMIT 1000) ahead"
)
_ITEMS_AHEAD = text(
    "SELECT count(*) FROM (SELECT 1 FROM request WHERE state = 'queued' AND batch_id = :batch"
    " AND (due_at, line) < (:due, :line) LIMIT 1000) ahead"
)


def position(tx: Tx, row: Record) -> int:
    """How many requests of the same pool and path, or items of its batch, are due before it; counts to 1,000."""
    return int(
        tx.execute(
            _ITEMS_AHEAD if row.batch_id else _AHEAD,
            {
                "pool": row.pool_id,
                "placement": row.placement,
                "due": row.due_at,
                "id": row.id,
                "batch": row.batch_id,
                "line": row.line,
            },
        ).scalar_one()
    )


_FINISH_UNSTARTED = """
UPDATE request SET state = :target, reason_code = :code, reason = :reason, finished_at = clock_timestamp(),
       next_check_at = NULL, version = version + 1
WHERE id = :id AND state = ANY(:guard) RETURNING *"""
_CANCEL = logged(_FINISH_UNSTARTED, "cancel", FOLD, outbox.REQUEST_MOVED)
_EXPIRE = logged(_FINISH_UNSTARTED, "expire", FOLD, outbox.REQUEST_MOVED)
_FAIL_QUEUED = logged(_FINISH_UNSTARTED, "fail", FOLD, outbox.REQUEST_MOVED)
_ASK_CANCEL = logged(
    "UPDATE request SET state = 'canceling', version = version + 1,"
    " next_check_at = clock_timestamp() + interval '20 seconds'"
    " WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "ask_cancel",
    FOLD,
)


def cancel(tx: Tx, tenant: str, request_id: str) -> Record:
    """Cancel at once what has not started, ask the gang to stop what has. Terminal: Conflict. Returns the row."""
    row = _lock(tx, tenant, request_id)
    state = RequestState(row.state)
    if state in TERMINAL:
        raise Conflict(f"request {request_id} is {state} already", code="already_terminal")
    if state is RequestState.QUEUED:
        _end_unstarted(tx, "cancel", request_id, None, "canceled before it started")
    elif state is not RequestState.CANCELING:
        asked = tx.execute(_ASK_CANCEL, {"id": request_id, "guard": REQUEST_MOVES["ask_cancel"].guard}).one()
        journal.request(tx, "ask_cancel", asked)
    return get(tx, tenant, request_id)


def expire(tx: Tx, request_id: str) -> bool:
    """The deadline to start passed."""
    return _end_unstarted(tx, "expire", request_id, Reason.DEADLINE, "did not start before its deadline")


def fail_queued(tx: Tx, request_id: str, reason: Reason, why: str, *, cause: Mapping[str, Any]) -> bool:
    """End a request that no gang can start for; `cause` is what the last gang's ranks said."""
    return _end_unstarted(tx, "fail", request_id, reason, why, cause)


def _end_unstarted(
    tx: Tx, move: str, request_id: str, reason: Reason | None, why: str, cause: Mapping[str, Any] | None = None
) -> bool:
    statement = {"cancel": _CANCEL, "expire": _EXPIRE, "fail": _FAIL_QUEUED}[move]
    guard = [RequestState.QUEUED.value]
    values = {"id": request_id, "guard": guard, "target": REQUEST_MOVES[move].target, "code": reason, "reason": why}
    row = tx.execute(statement, values).one_or_none()
    if row is None:
        return False
    journal.request(tx, move, row, seconds=journal.between(row.created_at, row.finished_at))
    error = {**(cause or {}), "code": reason, "message": why, "retryable": False} if move != "cancel" else None
    close(tx, row, attempt_id=None, outcome=row.state, error=error, digest=b"", run_s=0.0)
    return True


_CLOSE = text("""
WITH stored AS (
  INSERT INTO result (request_id, attempt_id, outcome, value, error, metrics, digest)
  VALUES (:request, :attempt, :outcome, CAST(:value AS jsonb), CAST(:error AS jsonb), CAST(:metrics AS jsonb), :digest)
), used AS (
  INSERT INTO usage (request_id, tenant, pool_id, attempts, ranks, run_s, gpu_seconds)
  SELECT :request, :tenant, :pool, :attempts, :ranks, :run_s,
         :run_s * :ranks * coalesce((s.spec ->> 'gpus_per_rank')::float8, 1)
  FROM pool s WHERE s.id = :pool RETURNING run_s, gpu_seconds
)
INSERT INTO batch_tally (batch_id, state, items, run_s, gpu_seconds)
SELECT :batch, :outcome, 1, run_s, gpu_seconds FROM used WHERE CAST(:batch AS text) IS NOT NULL
""")


def close(
    tx: Tx,
    row: Record,
    *,
    attempt_id: str | None,
    outcome: str,
    digest: bytes,
    run_s: float,
    ranks: int = 0,
    value: Any = None,
    error: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """The one result row and the one usage row of a terminal request (I7). `run_s` is gang seconds."""
    tx.execute(
        _CLOSE,
        {
            "request": row.id,
            "attempt": attempt_id,
            "outcome": outcome,
            "value": None if value is None else json.dumps(value),
            "error": None if error is None else json.dumps(error),
            "metrics": json.dumps(metrics or {}),
            "digest": digest,
            "tenant": row.tenant,
            "pool": row.pool_id,
            "batch": row.batch_id,
            "attempts": row.attempts,
            "ranks": ranks,
            "run_s": run_s,
        },
    )


def _lock(tx: Tx, tenant: str, request_id: str) -> Record:
    query = text("SELECT * FROM request WHERE id = :id AND tenant = :tenant FOR UPDATE")
    row = tx.execute(query, {"id": request_id, "tenant": tenant}).one_or_none()
    if row is None:
        raise missing(tx, tenant, request_id)
    return row


def overdue(tx: Tx, limit: int = 100) -> Sequence[Record]:
    """Open requests whose clock rang, locked; rows that another replica looks at are skipped."""
    return tx.execute(
        text(
            "SELECT *, start_by <= clock_timestamp() AS too_late,"
            " assigned_at + timeout_s * interval '1 second' + interval '30 seconds' <= clock_timestamp() AS overrun,"
            " state = 'canceling' AND (SELECT max(at) FROM event e WHERE e.subject = r.id AND e.move = 'ask_cancel')"
            "   + :hard * interval '1 second' <= clock_timestamp() AS deaf,"
            " (SELECT slot FROM attempt a WHERE a.request_id = r.id AND a.ended_at IS NULL) AS slot"
            " FROM request r WHERE next_check_at <= (SELECT clock_timestamp()) ORDER BY next_check_at LIMIT :n"
            " FOR UPDATE SKIP LOCKED"
        ),
        {"n": limit, "hard": HARD_CANCEL.total_seconds()},
    ).all()


def wind(tx: Tx, request_id: str) -> None:
    """Nothing is due: look again in a minute, or when the deadline to start passes."""
    tx.execute(
        text(
            "UPDATE request SET next_check_at = CASE WHEN state = 'queued'"
            " THEN least(clock_timestamp() + interval '60 seconds', start_by)"
            " ELSE clock_timestamp() + interval '10 seconds' END WHERE id = :id AND next_check_at IS NOT NULL"
        ),
        {"id": request_id},
    )


_ALONE = prepared("""
SELECT r.id, r.due_at FROM request r WHERE r.pool_id = :p AND r.placement = 'batch'
  AND r.batch_id IS NULL AND r.state = 'queued' AND r.run_at <= clock_timestamp()
  AND NOT EXISTS (SELECT 1 FROM gang g WHERE g.request_id = r.id AND g.state <> 'gone')
ORDER BY r.due_at, r.id LIMIT :n
""")


def waiting_for_batch_gang(tx: Tx, pool_id: str, limit: int) -> Sequence[Record]:
    """Requests (`id`, `due_at`) that want a gang of their own and have none, in due order."""
    return tx.execute(_ALONE, {"p": pool_id, "n": limit}).all()


def queued_ids(tx: Tx, pool_id: str, placement: str, limit: int = 1000) -> Sequence[str]:
    """Requests that wait in this pool on this path; items are their batch's to look after."""
    return (
        tx.execute(
            text(
                "SELECT id FROM request WHERE pool_id = :p AND placement = :path AND state = 'queued'"
                " AND batch_id IS NULL ORDER BY due_at, id LIMIT :n"
            ),
            {"p": pool_id, "path": placement, "n": limit},
        )
        .scalars()
        .all()
    )


def events(tx: Tx, tenant: str, request_id: str, after: int = 0, limit: int = 10_000) -> Sequence[Record]:
    """The moves of a request in order."""
    peek(tx, tenant, request_id)
    return tx.execute(
        text("SELECT seq, at, move, data FROM event WHERE subject = :id AND seq > :after ORDER BY seq LIMIT :n"),
        {"id": request_id, "after": after, "n": limit},
    ).all()
