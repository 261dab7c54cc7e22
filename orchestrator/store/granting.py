"""Leases granted: requests become assigned, each with a new attempt on a gang. Who calls holds the pool."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.ids import lease_token, new_id
from orchestrator.domain.placement import Assignment
from orchestrator.domain.states import REQUEST_MOVES
from orchestrator.store import journal, requests
from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared

_ASSIGN = prepared(f"""
WITH chosen AS (
  SELECT * FROM unnest(CAST(:requests AS text[]), CAST(:attempts AS text[]), CAST(:gangs AS text[]),
                       CAST(:incarnations AS int[]), CAST(:slots AS smallint[]), CAST(:tokens AS text[]))
    AS c (request_id, attempt_id, gang, incarnation, slot, token)
), moved AS (
  UPDATE request r SET state = 'assigned', attempts = attempts + 1, gang_id = c.gang, assigned_at = clock_timestamp(),
         started_at = NULL, reason_code = NULL, reason = NULL, version = version + 1,
         next_check_at = clock_timestamp() + (timeout_s + 31) * interval '1 second'
  FROM chosen c WHERE r.id = c.request_id AND r.state = ANY(:guard)
  RETURNING r.*, c.attempt_id, c.incarnation, c.slot, c.token
), granted AS (
  INSERT INTO attempt (id, request_id, number, gang_id, incarnation, slot, token)
  SELECT attempt_id, id, attempts, gang_id, incarnation, slot, token FROM moved
), logged AS (
  INSERT INTO event (subject, seq, move, data)
  SELECT id, version, 'assign', {requests.FOLD} || jsonb_build_object('attempt', attempt_id) FROM moved
), charged AS (
  INSERT INTO tenant_share (pool_id, tenant, vtime)
  SELECT :pool, tenant, vtime FROM unnest(CAST(:tenants AS text[]), CAST(:vtimes AS float8[])) AS v (tenant, vtime)
  ON CONFLICT (pool_id, tenant) DO UPDATE SET vtime = greatest(tenant_share.vtime, excluded.vtime)
)
SELECT m.id AS request, m.gang_id AS gang, m.incarnation, m.slot, m.attempt_id AS attempt, m.attempts AS number,
       m.token, m.tenant, p.input, p.files, p.traceparent, p.tracestate, m.timeout_s, m.pool_id, s.spec,
       m.id, m.state, m.template, m.placement, m.gang_id, m.reason_code, m.attempts, m.created_at, m.run_at,
       m.assigned_at
FROM moved m LEFT JOIN payload p ON p.request_id = m.id AND :carry LEFT JOIN pool s ON s.id = m.pool_id AND :carry
""")


def grant(tx: Tx, pool_id: str, assignments: Sequence[Assignment], *, carry: bool) -> Sequence[Record]:
    """Grant the leases; the rows are leases, with `carry` with all that their gangs are told.

    Only those with a `vtime` are charged: all gangs that pull items would wait for the row of their tenant's share.
    """
    charged = {a.tenant: a.vtime for a in assignments if a.vtime is not None}
    rows = tx.execute(
        _ASSIGN,
        {
            "pool": pool_id,
            "requests": [a.request for a in assignments],
            "attempts": [new_id("att") for _ in assignments],
            "gangs": [a.slot.gang for a in assignments],
            "incarnations": [a.slot.incarnation for a in assignments],
            "slots": [a.slot.number for a in assignments],
            "tokens": [lease_token() for _ in assignments],
            "tenants": [*charged],
            "vtimes": [*charged.values()],
            "guard": REQUEST_MOVES["assign"].guard,
            "carry": carry,
        },
    ).all()
    for row in rows:
        journal.request(
            tx, "assign", row, attempt=row.attempt, incarnation=row.incarnation, seconds=journal.queued(row)
        )
    return rows
