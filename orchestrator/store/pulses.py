"""What a beat says of a live attempt: that it runs, how far it is. Written only while the lease is alive."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.domain.states import REQUEST_MOVES, RequestState
from orchestrator.store import journal, outbox, requests, trails
from orchestrator.store.database import Tx
from orchestrator.store.prepared import prepared
from orchestrator.store.trails import Trail

_START = prepared(f"""
WITH begun AS (
  UPDATE attempt SET started_at = clock_timestamp()
  WHERE id = :attempt AND token = :token AND gang_id = :gang AND incarnation = :incarnation
    AND ended_at IS NULL AND started_at IS NULL
  RETURNING request_id, started_at
), moved AS (
  UPDATE request r SET state = 'running', started_at = b.started_at, version = version + 1
  FROM begun b WHERE r.id = b.request_id AND r.state = ANY(:guard) RETURNING r.*
), logged AS (
  INSERT INTO event (subject, seq, move, data) SELECT id, version, 'start', {requests.FOLD} FROM moved
){outbox.REQUEST_MOVED}
SELECT * FROM moved
""")

_PROGRESS = prepared(f"""
WITH trailed AS (
  UPDATE attempt SET trail = {trails.GIVEN}
  WHERE id = :attempt AND token = :token AND gang_id = :gang AND incarnation = :incarnation AND ended_at IS NULL
    AND CAST(:phases AS jsonb) IS NOT NULL AND trail -> 'phases' IS DISTINCT FROM CAST(:phases AS jsonb)
)
INSERT INTO progress (request_id, attempt_id, phase, current, total)
SELECT a.request_id, a.id, :phase, :current, :total FROM attempt a
WHERE a.id = :attempt AND a.token = :token AND a.gang_id = :gang AND a.incarnation = :incarnation AND a.ended_at IS NULL
ON CONFLICT (request_id) DO UPDATE SET attempt_id = excluded.attempt_id, phase = excluded.phase,
  current = excluded.current, total = excluded.total, beats = progress.beats + 1, updated_at = clock_timestamp(),
  moved_at = CASE WHEN (progress.phase, progress.current) IS DISTINCT FROM (excluded.phase, excluded.current)
    THEN clock_timestamp() ELSE progress.moved_at END
RETURNING request_id
""")
_STATE = prepared(
    "SELECT r.state FROM request r JOIN attempt a ON a.request_id = r.id WHERE a.id = :attempt AND a.ended_at IS NULL"
)


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """What one beat says of one attempt."""

    attempt: str
    token: str
    phase: str | None
    current: float | None
    total: float | None
    trail: Trail | None = None


@dataclass(frozen=True, kw_only=True)
class Pulsed:
    """What the gang is told: continue, cancel or revoked; and whose viewers to wake."""

    answer: str
    request: str | None


def beat(tx: Tx, gang_id: str, incarnation: int, pulse: Pulse) -> Pulsed:
    """Record progress of a live lease and, the first time, that it runs."""
    key = {"attempt": pulse.attempt, "token": pulse.token, "gang": gang_id, "incarnation": incarnation}
    at = {"phase": pulse.phase, "current": pulse.current, "total": pulse.total}
    request_id = tx.execute(_PROGRESS, {**key, **at, **trails.given(pulse.trail)}).scalar_one_or_none()
    if request_id is None:
        return Pulsed(answer="revoked", request=None)
    if begun := tx.execute(_START, {**key, "guard": REQUEST_MOVES["start"].guard}).one_or_none():
        waited = journal.between(begun.assigned_at, begun.started_at)
        journal.request(tx, "start", begun, attempt=pulse.attempt, incarnation=incarnation, seconds=waited)
    state = tx.execute(_STATE, {"attempt": pulse.attempt}).scalar_one_or_none()
    if state is None:  # it ended since the first statement
        return Pulsed(answer="revoked", request=None)
    return Pulsed(answer="cancel" if state == RequestState.CANCELING else "continue", request=request_id)
