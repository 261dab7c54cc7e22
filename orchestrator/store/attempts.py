"""Attempts: granted, started, finished, lost. Each write checks (attempt, token, incarnation) in its own statement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import TextClause, text

from orchestrator.domain.ids import lease_token, new_id
from orchestrator.domain.placement import Assignment
from orchestrator.domain.recovery import Fail, Retry, Tries, after_loss
from orchestrator.domain.states import FAULTS, REQUEST_MOVES, Fault, Outcome, Reason, RequestState
from orchestrator.errors import Conflict, StaleLease
from orchestrator.store import journal, outbox, requests
from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared

_ASSIGN = prepared(f"""
WITH chosen AS (
  SELECT * FROM unnest(CAST(:requests AS text[]), CAST(:attempts AS text[]), CAST(:gangs AS text[]),
                       CAST(:incarnations AS int[]), CAST(:tokens AS text[]))
    AS c (request_id, attempt_id, gang, incarnation, token)
), moved AS (
  UPDATE request r SET state = 'assigned', attempts = attempts + 1, gang_id = c.gang, assigned_at = clock_timestamp(),
         started_at = NULL, reason_code = NULL, reason = NULL, version = version + 1,
         next_check_at = clock_timestamp() + (timeout_s + 31) * interval '1 second'
  FROM chosen c WHERE r.id = c.request_id AND r.state = ANY(:guard)
  RETURNING r.*, c.attempt_id, c.incarnation, c.token
), granted AS (
  INSERT INTO attempt (id, request_id, number, gang_id, incarnation, token)
  SELECT attempt_id, id, attempts, gang_id, incarnation, token FROM moved
), logged AS (
  INSERT INTO event (subject, seq, move, data)
  SELECT id, version, 'assign', {requests.FOLD} || jsonb_build_object('attempt', attempt_id) FROM moved
), charged AS (
  INSERT INTO tenant_share (pool_id, tenant, vtime)
  SELECT :pool, tenant, max(vtime) FROM unnest(CAST(:tenants AS text[]), CAST(:vtimes AS float8[])) AS v (tenant, vtime)
  GROUP BY tenant
  ON CONFLICT (pool_id, tenant) DO UPDATE SET vtime = greatest(tenant_share.vtime, excluded.vtime)
)
SELECT m.id AS request, m.gang_id AS gang, m.incarnation, m.attempt_id AS attempt, m.attempts AS number, m.token,
       m.tenant, p.input, p.files, m.timeout_s, m.pool_id, s.spec,
       m.id, m.state, m.template, m.placement, m.gang_id, m.reason_code, m.attempts, m.created_at, m.run_at,
       m.assigned_at
FROM moved m LEFT JOIN payload p ON p.request_id = m.id AND :carry LEFT JOIN pool s ON s.id = m.pool_id AND :carry
""")


def assign(tx: Tx, pool_id: str, assignments: Sequence[Assignment]) -> list[str]:
    """Grant the leases; returns the gangs that got one. The caller holds the pool's row."""
    return [row.gang for row in grant(tx, pool_id, assignments, carry=False)]


def grant(tx: Tx, pool_id: str, assignments: Sequence[Assignment], *, carry: bool) -> Sequence[Record]:
    """As `assign`; the rows are leases, with `carry` with all that their gangs are told."""
    rows = tx.execute(
        _ASSIGN,
        {
            "pool": pool_id,
            "requests": [a.request for a in assignments],
            "attempts": [new_id("att") for _ in assignments],
            "gangs": [a.slot.gang for a in assignments],
            "incarnations": [a.slot.incarnation for a in assignments],
            "tokens": [lease_token() for _ in assignments],
            "tenants": [a.tenant for a in assignments],
            "vtimes": [a.vtime for a in assignments],
            "guard": REQUEST_MOVES["assign"].guard,
            "carry": carry,
        },
    ).all()
    for row in rows:
        journal.request(
            tx, "assign", row, attempt=row.attempt, incarnation=row.incarnation, seconds=journal.queued(row)
        )
    return rows


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What a gang reports at the end of an attempt."""

    token: str
    outcome: Outcome
    digest: bytes
    """Of the whole report: the same bytes again are a replay."""
    run_s: float
    value: Any = None
    outputs: Sequence[Mapping[str, Any]] = ()
    error: Mapping[str, Any] | None = None
    metrics: Mapping[str, float] | None = None
    healthy: bool = True


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The effect of a report, or of the loss of one."""

    request: str
    state: RequestState
    gang: str
    replayed: bool = False


@dataclass(frozen=True, kw_only=True)
class _End:
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


_GPUS = "coalesce((SELECT (p.spec ->> 'gpus_per_rank')::float8 FROM pool p WHERE p.id = r.pool_id), 1)"
_FIND = prepared(f"""
SELECT a.id AS attempt_id, a.token, a.ended_at, a.incarnation AS lease_incarnation, a.gang_id AS lease_gang, a.number,
       g.incarnation, g.session_hash, g.world, {_GPUS} AS gpus_per_rank, r.*
FROM attempt a JOIN request r ON r.id = a.request_id JOIN gang g ON g.id = a.gang_id
WHERE a.id = :attempt FOR UPDATE OF a, r
""")


def finish(tx: Tx, attempt_id: str, session_hash: bytes, report: Finish) -> Finished:
    """Record the report if its lease is alive; the same bytes again answer alike.

    Raises StaleLease when the lease is over, Conflict when another result was reported first.
    """
    row = tx.execute(_FIND, {"attempt": attempt_id}).one_or_none()
    if row is None or row.token != report.token:
        raise StaleLease(f"attempt {attempt_id} does not hold this lease")
    if row.ended_at is not None:
        return _replay(tx, row, report)
    if bytes(row.session_hash or b"") != session_hash or row.incarnation != row.lease_incarnation:
        raise StaleLease(f"attempt {attempt_id} was granted to another incarnation")
    if row.state == RequestState.CANCELING:
        return _end_canceled(tx, row, "canceled while it ran", report.run_s, report.digest)
    match report.outcome:
        case Outcome.SUCCEEDED:
            return _succeed(tx, row, report)
        case Outcome.FAILED:
            return _fail(tx, row, report)
        case _:
            return lose(tx, row, Reason.DRAINED, "the gang stopped before it was done", crashed=False)


_WINNER = text("SELECT attempt_id, digest FROM result WHERE request_id = :r")
"""A statement of its own: the one that waited for the lock still sees the moment before the rival's commit."""


def _replay(tx: Tx, row: Record, report: Finish) -> Finished:
    first = tx.execute(_WINNER, {"r": row.id}).one_or_none()
    if first is None or first.attempt_id != row.attempt_id or not first.digest:
        raise StaleLease(f"the lease of attempt {row.attempt_id} is over")
    if bytes(first.digest) != report.digest:
        raise Conflict(
            f"attempt {row.attempt_id} has reported another result; the first is final", code="result_exists"
        )
    return Finished(request=row.id, state=RequestState(row.state), gang=row.lease_gang, replayed=True)


_END_ATTEMPT = """
  UPDATE attempt SET ended_at = clock_timestamp(), outcome = :outcome, reason_code = :code, reason = :reason,
         rank = :rank, node = :node,
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


def _end(
    tx: Tx,
    row: Record,
    move: str,
    end: _End,
    *,
    crashed: int = 0,
    pause_s: float = 0.0,
    lost: Reason | None = None,
) -> None:
    moved = tx.execute(
        _RETRY if move == "retry" else _TERMINATE[move],
        {
            "attempt": row.attempt_id,
            "token": row.token,
            "outcome": end.outcome,
            "code": end.reason,
            "reason": end.why,
            "rank": end.rank,
            "node": end.node,
            "run_s": end.run_s,
            "target": REQUEST_MOVES[move].target,
            "guard": REQUEST_MOVES[move].guard,
            "crashed": crashed,
            "pause": pause_s,
            "ranks": row.world,
            "value": None if end.value is None else json.dumps(end.value),
            "error": None if end.error is None else json.dumps(end.error),
            "metrics": json.dumps(end.metrics or {}),
            "digest": end.digest,
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
        gpu_seconds=moved.run_s * row.world * row.gpus_per_rank,
        lost=lost,
    )


_OUTPUTS = prepared("""
INSERT INTO output (request_id, name, media_type, bytes, sha256, uri, expires_at)
SELECT r.id, o.name, o.media_type, o.bytes, o.sha256, o.uri, r.finished_at + r.output_ttl_s * interval '1 second'
FROM request r, json_to_recordset(CAST(:outputs AS json))
  AS o (name text, media_type text, bytes bigint, sha256 text, uri text)
WHERE r.id = :request
""")


def _succeed(tx: Tx, row: Record, report: Finish) -> Finished:
    end = _End(
        outcome=Outcome.SUCCEEDED,
        run_s=report.run_s,
        digest=report.digest,
        value=report.value,
        metrics=report.metrics,
    )
    _end(tx, row, "succeed", end)
    if report.outputs:
        tx.execute(_OUTPUTS, {"request": row.id, "outputs": json.dumps(list(report.outputs))})
    return Finished(request=row.id, state=RequestState.SUCCEEDED, gang=row.lease_gang)


def _fail(tx: Tx, row: Record, report: Finish) -> Finished:
    error = dict(report.error or {})
    reason = Reason(error["code"]) if error.get("code") in set(Reason) else Reason.HANDLER_ERROR
    crashed = 0 if report.healthy or FAULTS[reason] is Fault.USER else 1
    end = _End(
        outcome=Outcome.FAILED,
        reason=reason,
        why=str(error.get("message") or "the handler failed"),
        rank=error.get("rank"),
        node=error.get("node"),
        run_s=report.run_s,
        digest=report.digest,
        error=error,
        metrics=report.metrics,
    )
    return _retry_or_fail(tx, row, end, crashed=crashed)


def _end_canceled(tx: Tx, row: Record, why: str, run_s: float | None, digest: bytes = b"") -> Finished:
    """A cancel was accepted before any result: what the gang reports now does not count."""
    _end(tx, row, "end_cancel", _End(outcome=Outcome.CANCELED, why=why, run_s=run_s, digest=digest))
    return Finished(request=row.id, state=RequestState.CANCELED, gang=row.lease_gang)


def live_on(tx: Tx, gang_id: str) -> Sequence[Record]:
    """The live attempts of a gang with their requests, locked in request order."""
    return tx.execute(
        text(
            "SELECT a.id AS attempt_id, a.token, a.started_at AS begun_at, a.number, a.gang_id AS lease_gang,"
            f" a.incarnation AS lease_incarnation, g.world, {_GPUS} AS gpus_per_rank, r.*"
            " FROM attempt a JOIN request r ON r.id = a.request_id JOIN gang g ON g.id = a.gang_id"
            " WHERE a.gang_id = :g AND a.ended_at IS NULL ORDER BY r.id FOR UPDATE OF a, r"
        ),
        {"g": gang_id},
    ).all()


def lose(
    tx: Tx, row: Record, reason: Reason, why: str, *, crashed: bool, rank: int | None = None, node: str | None = None
) -> Finished:
    """End a lease whose gang did not report: another try, the end with the cause, or the end of a cancel."""
    if row.state == RequestState.CANCELING:
        return _end_canceled(tx, row, f"canceled; {why}", None)
    error = {"rank": rank, "node": node}
    end = _End(outcome=Outcome.LOST, reason=reason, why=why, rank=rank, node=node, error=error)
    return _retry_or_fail(tx, row, end, crashed=int(crashed))


def _retry_or_fail(tx: Tx, row: Record, end: _End, *, crashed: int) -> Finished:
    tries = Tries(
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        crashes=row.crashes + crashed,
        max_crashes=row.max_crashes,
    )
    lost = end.reason if end.outcome is Outcome.LOST else None
    match after_loss(end.reason or Reason.GANG_LOST, end.why or "", tries):
        case Retry(after=pause):
            _end(tx, row, "retry", end, crashed=crashed, pause_s=pause.total_seconds(), lost=lost)
            return Finished(request=row.id, state=RequestState.QUEUED, gang=row.lease_gang)
        case Fail(reason=reason, why=why):
            _end(tx, row, "fail", _with_cause(end, row, reason, why), crashed=crashed, lost=lost)
            return Finished(request=row.id, state=RequestState.FAILED, gang=row.lease_gang)


def _with_cause(end: _End, row: Record, reason: Reason, why: str) -> _End:
    shown = {
        **(end.error or {}),
        "code": reason,
        "message": why,
        "attempt": row.number,
        "retryable": FAULTS[reason] is Fault.INFRA,
    }
    return replace(end, reason=reason, why=why, error=shown)
