"""Attempts: finished or lost. Each write checks (attempt, token, incarnation) in its own statement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text

from orchestrator.domain.recovery import Fail, Retry, Tries, after_loss
from orchestrator.domain.states import FAULTS, Fault, Outcome, Reason, RequestState
from orchestrator.errors import Conflict, StaleLease
from orchestrator.store.database import Record, Tx
from orchestrator.store.ending import End, end, publishing
from orchestrator.store.prepared import prepared
from orchestrator.store.trails import Trail


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
    trail: Trail | None = None


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The effect of a report, or of the loss of one."""

    request: str
    state: RequestState
    gang: str
    slot: int = 0
    replayed: bool = False


_GPUS = "coalesce((SELECT (p.spec ->> 'gpus_per_rank')::float8 FROM pool p WHERE p.id = r.pool_id), 1)"
_FIND = prepared(f"""
SELECT a.id AS attempt_id, a.token, a.ended_at, a.incarnation AS lease_incarnation, a.gang_id AS lease_gang, a.number,
       a.slot, g.incarnation, g.session_hash, g.world / g.replicas AS ranks, {_GPUS} AS gpus_per_rank, r.*
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
        return _end_canceled(tx, row, "canceled while it ran", report.run_s, report.digest, report.trail)
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
    return Finished(request=row.id, state=RequestState(row.state), gang=row.lease_gang, slot=row.slot, replayed=True)


_OUTPUTS = prepared(publishing("request m", "CAST(:outputs AS json)") + " WHERE m.id = :request")


def _succeed(tx: Tx, row: Record, report: Finish) -> Finished:
    told = End(
        outcome=Outcome.SUCCEEDED,
        run_s=report.run_s,
        digest=report.digest,
        value=report.value,
        metrics=report.metrics,
        trail=report.trail,
    )
    end(tx, row, "succeed", told)
    if report.outputs:
        tx.execute(_OUTPUTS, {"request": row.id, "outputs": json.dumps(list(report.outputs))})
    return Finished(request=row.id, state=RequestState.SUCCEEDED, gang=row.lease_gang, slot=row.slot)


def _fail(tx: Tx, row: Record, report: Finish) -> Finished:
    error = dict(report.error or {})
    reason = Reason(error["code"]) if error.get("code") in set(Reason) else Reason.HANDLER_ERROR
    crashed = 0 if report.healthy or FAULTS[reason] is Fault.USER else 1
    told = End(
        outcome=Outcome.FAILED,
        reason=reason,
        why=str(error.get("message") or "the handler failed"),
        rank=error.get("rank"),
        node=error.get("node"),
        run_s=report.run_s,
        digest=report.digest,
        error=error,
        metrics=report.metrics,
        trail=report.trail,
    )
    return _retry_or_fail(tx, row, told, crashed=crashed)


def _end_canceled(
    tx: Tx, row: Record, why: str, run_s: float | None, digest: bytes = b"", trail: Trail | None = None
) -> Finished:
    """A cancel was accepted before any result: what the gang reports now does not count."""
    end(tx, row, "end_cancel", End(outcome=Outcome.CANCELED, why=why, run_s=run_s, digest=digest, trail=trail))
    return Finished(request=row.id, state=RequestState.CANCELED, gang=row.lease_gang, slot=row.slot)


def live_on(tx: Tx, gang_id: str) -> Sequence[Record]:
    """The live attempts of a gang with their requests, locked in request order."""
    return tx.execute(
        text(
            "SELECT a.id AS attempt_id, a.token, a.started_at AS begun_at, a.number, a.gang_id AS lease_gang,"
            " a.incarnation AS lease_incarnation, a.slot, g.replicas, g.world / g.replicas AS ranks,"
            f" {_GPUS} AS gpus_per_rank, r.*"
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
    told = End(outcome=Outcome.LOST, reason=reason, why=why, rank=rank, node=node, error=error)
    return _retry_or_fail(tx, row, told, crashed=int(crashed))


def _retry_or_fail(tx: Tx, row: Record, told: End, *, crashed: int) -> Finished:
    tries = Tries(
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        crashes=row.crashes + crashed,
        max_crashes=row.max_crashes,
    )
    lost = told.reason if told.outcome is Outcome.LOST else None
    match after_loss(told.reason or Reason.GANG_LOST, told.why or "", tries):
        case Retry(after=pause):
            end(tx, row, "retry", told, crashed=crashed, pause_s=pause.total_seconds(), lost=lost)
            return Finished(request=row.id, state=RequestState.QUEUED, gang=row.lease_gang, slot=row.slot)
        case Fail(reason=reason, why=why):
            end(tx, row, "fail", _with_cause(told, row, reason, why), crashed=crashed, lost=lost)
            return Finished(request=row.id, state=RequestState.FAILED, gang=row.lease_gang, slot=row.slot)


def _with_cause(told: End, row: Record, reason: Reason, why: str) -> End:
    shown = {
        **(told.error or {}),
        "code": reason,
        "message": why,
        "attempt": row.number,
        "retryable": FAULTS[reason] is Fault.INFRA,
    }
    return replace(told, reason=reason, why=why, error=shown)
