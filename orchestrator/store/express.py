"""The way that nearly every request takes, in few statements: a free gang takes it at once, and it succeeds.

Same moves, same guards, same events as in `requests`, `attempts` and `scheduling`. Whatever is not the usual case is
left to them: a function that returns None has changed nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from orchestrator.domain.ids import lease_token, new_id
from orchestrator.domain.placement import Assignment, Candidate, Slot, choose
from orchestrator.domain.states import REQUEST_MOVES, Outcome, RequestState
from orchestrator.store import attempts, requests, scheduling
from orchestrator.store.attempts import CLOSED, Finish, Finished
from orchestrator.store.database import Tx
from orchestrator.store.new_request import NewRequest, columns, inserting
from orchestrator.store.prepared import prepared
from orchestrator.store.scheduling import CREDIT, DUE, FREE, VTIME, WAITING, Lease, Tick

_FREE_GANG = prepared(f"""
SELECT g.id, g.incarnation, t.weight, {VTIME} AS vtime FROM gang g
JOIN gang_beat b ON b.gang_id = g.id AND b.incarnation = g.incarnation
JOIN tenant t ON t.id = :tenant LEFT JOIN tenant_share s ON s.pool_id = :p AND s.tenant = t.id
WHERE g.pool_id = :p AND {FREE}
  AND NOT EXISTS (SELECT 1 FROM request r WHERE r.pool_id = :p AND r.placement = 'warm' AND r.state = 'queued')
ORDER BY g.id LIMIT 1 FOR SHARE OF g SKIP LOCKED
""")
_RECORD = prepared(f"""
WITH {inserting("2", "'assigned'", "1", ":gang", "clock_timestamp()", "CAST(:timeout_s AS float8) + 31")}
, granted AS (
  INSERT INTO attempt (id, request_id, number, gang_id, incarnation, token)
  SELECT :attempt, id, attempts, gang_id, :incarnation, :token FROM new
), assigned AS (
  INSERT INTO event (subject, seq, at, move, data)
  SELECT id, version, assigned_at, 'assign', {requests.FOLD} || jsonb_build_object('attempt', CAST(:attempt AS text))
  FROM new
), charged AS (
  INSERT INTO tenant_share (pool_id, tenant, vtime) SELECT pool_id, tenant, :vtime FROM new
  ON CONFLICT (pool_id, tenant) DO UPDATE SET vtime = greatest(tenant_share.vtime, excluded.vtime)
)
SELECT id FROM new
""")


def free_gang(tx: Tx, pool_id: str, request: str, tenant: str, lease: timedelta) -> Assignment | None:
    """A gang for a request that is about to be recorded, if nobody waits. The caller holds the pool's row."""
    values = {"p": pool_id, "tenant": tenant, "credit": CREDIT, "fresh": lease.total_seconds() / 2}
    row = tx.execute(_FREE_GANG, values).one_or_none()
    if row is None:
        return None
    slot = Slot(gang=row.id, incarnation=row.incarnation)
    return choose([slot], [Candidate(request=request, tenant=tenant, vtime=row.vtime, weight=row.weight)])[0]


def record_and_assign(tx: Tx, new: NewRequest, assignment: Assignment, spec: Mapping[str, Any]) -> Lease | None:
    """Two moves in one statement. None if the idempotency key is taken. The caller holds the pool's row."""
    lease = Lease(
        gang=assignment.slot.gang,
        incarnation=assignment.slot.incarnation,
        attempt=new_id("att"),
        request=new.id,
        number=1,
        token=lease_token(),
        tenant=new.tenant,
        input=new.input,
        timeout_s=new.timeout_s,
        pool_id=new.pool_id,
        spec=spec,
    )
    granted = {
        "attempt": lease.attempt,
        "gang": lease.gang,
        "incarnation": lease.incarnation,
        "token": lease.token,
        "vtime": assignment.vtime,
    }
    recorded = tx.execute(_RECORD, {**columns(new), **granted}).one_or_none()
    return None if recorded is None else lease


@dataclass(frozen=True, kw_only=True)
class Freed:
    """A gang whose attempt succeeded. `pool`: where it takes its next request; None if it takes none by itself."""

    finished: Finished
    pool: str | None
    locked: bool
    """This transaction holds the pool's row."""


_SUCCEED = prepared(f"""
WITH found AS MATERIALIZED (
  SELECT a.id, a.request_id, a.gang_id, g.world, g.pool_id, g.mode = 'serve' AND g.state = 'ready' AS free
  FROM attempt a JOIN request r ON r.id = a.request_id JOIN gang g ON g.id = a.gang_id
  WHERE a.id = :attempt AND a.token = :token AND a.ended_at IS NULL AND r.state = ANY(:guard)
    AND g.incarnation = a.incarnation AND g.session_hash = :session
  FOR UPDATE OF a, r
), ended AS (
  UPDATE attempt a SET ended_at = clock_timestamp(), outcome = 'succeeded', run_s = :run_s
  FROM found f WHERE a.id = f.id AND a.token = :token AND a.ended_at IS NULL
  RETURNING a.request_id, a.run_s, a.gang_id AS gang, f.world, f.free
), moved AS (
  UPDATE request r SET state = 'succeeded', reason_code = NULL, reason = NULL, gang_id = NULL, version = version + 1,
         {CLOSED}
  FROM ended e WHERE r.id = e.request_id AND r.state = ANY(:guard) RETURNING r.*, e.run_s, e.gang, e.world, e.free
), logged AS (
  INSERT INTO event (subject, seq, move, data) SELECT id, version, 'succeed', {requests.FOLD} FROM moved
), stored AS (
  INSERT INTO result (request_id, attempt_id, outcome, value, error, metrics, digest)
  SELECT id, :attempt, state, CAST(:value AS jsonb), NULL, CAST(:metrics AS jsonb), :digest FROM moved
), used AS (
  INSERT INTO usage (request_id, tenant, pool_id, attempts, ranks, run_s, gpu_seconds)
  SELECT m.id, m.tenant, m.pool_id, m.attempts, m.world, m.run_s,
         m.run_s * m.world * coalesce((s.spec ->> 'gpus_per_rank')::float8, 1)
  FROM moved m JOIN pool s ON s.id = m.pool_id
), published AS (
  INSERT INTO output (request_id, name, media_type, bytes, sha256, uri)
  SELECT m.id, o.name, o.media_type, o.bytes, o.sha256, o.uri
  FROM moved m, json_to_recordset(CAST(:outputs AS json))
    AS o (name text, media_type text, bytes bigint, sha256 text, uri text)
), locked AS (
  SELECT 1 FROM pool WHERE id = (SELECT pool_id FROM found WHERE free) FOR UPDATE SKIP LOCKED
)
SELECT id, gang, pool_id, free, EXISTS (SELECT FROM locked) AS locked FROM moved
""")


def succeed(tx: Tx, attempt_id: str, session_hash: bytes, report: Finish) -> Freed | None:
    """All checks and all writes of a success. None: some check failed, or it is no success; `finish` says which."""
    if report.outcome is not Outcome.SUCCEEDED:
        return None
    row = tx.execute(
        _SUCCEED,
        {
            "attempt": attempt_id,
            "token": report.token,
            "session": session_hash,
            "guard": REQUEST_MOVES["succeed"].guard,
            "run_s": report.run_s,
            "value": None if report.value is None else json.dumps(report.value),
            "metrics": json.dumps(report.metrics or {}),
            "digest": report.digest,
            "outputs": json.dumps(list(report.outputs)),
        },
    ).one_or_none()
    if row is None:
        return None
    finished = Finished(request=row.id, state=RequestState.SUCCEEDED, gang=row.gang)
    return Freed(finished=finished, pool=row.pool_id if row.free else None, locked=row.locked)


_NEXT = prepared(f"""
WITH RECURSIVE {WAITING}
SELECT q.id, w.tenant, w.vtime, w.weight, f.incarnation FROM (
  SELECT g.incarnation FROM gang g JOIN gang_beat b ON b.gang_id = g.id AND b.incarnation = g.incarnation
  WHERE g.id = :gang AND {FREE} FOR SHARE OF g SKIP LOCKED) f
CROSS JOIN share w {DUE}
""")


def assign_next(tx: Tx, freed: Freed, lease: timedelta) -> Tick:
    """Give the gang what is due in its pool."""
    if freed.pool is None or not freed.locked:
        return Tick(contended=freed.pool is not None)
    gang = freed.finished.gang
    values = {"p": freed.pool, "gang": gang, "n": 1, "credit": CREDIT, "fresh": lease.total_seconds() / 2}
    rows = tx.execute(_NEXT, values).all()
    if not rows:
        return Tick()
    slot = Slot(gang=gang, incarnation=rows[0].incarnation)
    chosen = choose([slot], scheduling.as_candidates(rows))
    granted = attempts.grant(tx, freed.pool, chosen, carry=True)
    return Tick(gangs=(gang,), lease=Lease(**granted[0]._mapping)) if granted else Tick()
