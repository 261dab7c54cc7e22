"""The scheduler's transaction: one at a time per pool, held by the pool's row (facts: a claim by workers breaks caps).

Read slots and candidates under the lock, choose in Python, write by ID. A replica that finds the row locked returns at
once: whoever holds it is doing the work.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from orchestrator.domain.placement import Assignment, Candidate, Slot, choose
from orchestrator.store import granting, items
from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared

CREDIT = 10.0
"""How far, in requests, a tenant that was idle may run ahead of the others."""

_LOCK = prepared("SELECT 1 FROM pool WHERE id = :p FOR UPDATE SKIP LOCKED")
_AWAIT_LOCK = prepared("SELECT 1 FROM pool WHERE id = :p FOR UPDATE")
FREE = """g.state = 'ready' AND g.mode = 'serve'
  AND b.seen_at > clock_timestamp() - :fresh * interval '1 second'
  AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL)"""
"""Of a gang `g` with its beat `b`: ready, seen within `fresh` seconds, and without a lease."""
FREE_IN_PART = FREE.removesuffix(")") + " OFFSET g.replicas - 1)"
"""Or, if it has several replicas, with fewer leases than these."""
_SLOTS = prepared(f"""
SELECT g.id, g.incarnation, g.replicas FROM gang g
JOIN gang_beat b ON b.gang_id = g.id AND b.incarnation = g.incarnation
WHERE g.pool_id = :p AND {FREE_IN_PART}
ORDER BY g.id LIMIT :n FOR SHARE OF g SKIP LOCKED
""")
_TAKEN = prepared("SELECT gang_id, slot FROM attempt WHERE gang_id = ANY(:gangs) AND ended_at IS NULL")
VTIME = """greatest(coalesce(s.vtime, 0),
         (SELECT coalesce(max(vtime), 0) FROM tenant_share WHERE pool_id = :p) - :credit)"""
"""Of a tenant's share `s` of pool `p`, if it has one."""
WAITING = f"""waiting (tenant) AS (
  (SELECT tenant FROM request WHERE pool_id = :p AND placement = 'warm' AND state = 'queued' ORDER BY tenant LIMIT 1)
  UNION ALL
  SELECT (SELECT r.tenant FROM request r WHERE r.pool_id = :p AND r.placement = 'warm' AND r.state = 'queued'
          AND r.tenant > w.tenant ORDER BY r.tenant LIMIT 1)
  FROM waiting w WHERE w.tenant IS NOT NULL
), share AS (
  SELECT w.tenant, t.weight, {VTIME} AS vtime
  FROM waiting w JOIN tenant t ON t.id = w.tenant
  LEFT JOIN tenant_share s ON s.pool_id = :p AND s.tenant = w.tenant
)"""
"""For WITH RECURSIVE: `share` has a row for each tenant that waits in pool `p`."""
DUE = """CROSS JOIN LATERAL (
  SELECT r.id FROM request r
  WHERE r.pool_id = :p AND r.placement = 'warm' AND r.tenant = w.tenant AND r.state = 'queued'
    AND r.run_at <= clock_timestamp() AND (r.start_by IS NULL OR r.start_by > clock_timestamp())
  ORDER BY r.due_at, r.id LIMIT :n) q"""
"""The first `n` requests of each row `w` of `share`."""
_CANDIDATES = prepared(f"WITH RECURSIVE {WAITING} SELECT q.id, w.tenant, w.vtime, w.weight FROM share w {DUE}")


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A granted lease with all that its gang is told."""

    gang: str
    incarnation: int
    slot: int
    attempt: str
    request: str
    number: int
    token: str
    tenant: str
    input: Mapping[str, Any]
    files: Mapping[str, Any] | None
    """Those that the input names."""
    timeout_s: float
    pool_id: str
    spec: Mapping[str, Any]
    """The template."""
    traceparent: str | None = None
    tracestate: str | None = None
    granted: float = field(default_factory=time.monotonic)
    """When this replica learned of it, by its own clock."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """What one look at a pool did. `gangs` got a lease; `contended`: another scheduler held the pool."""

    gangs: tuple[str, ...] = ()
    contended: bool = False
    leases: tuple[Lease, ...] = ()
    """What was granted, with all that the gangs are told, if that was asked for."""


def assign_pool(
    tx: Tx, pool_id: str, lease: timedelta, most: int = 256, *, patient: bool = False, carry: bool = False
) -> Tick:
    """Give free gangs of the pool what is due. `carry`: and read all that they are told of it.

    `patient`: wait for whoever assigns in the pool now, for a gang stands at the counter.
    """
    if tx.execute(_AWAIT_LOCK if patient else _LOCK, {"p": pool_id}).one_or_none() is None:
        return Tick(contended=True)
    slots = _free_slots(tx, pool_id, lease, most)
    if not slots:
        return Tick()
    assignments = choose(slots, _candidates(tx, pool_id, len(slots)))
    granted = list(granting.grant(tx, pool_id, assignments, carry=carry)) if assignments else []
    granted += _lend(tx, pool_id, slots[len(assignments) :], carry=carry)
    return _tick(granted, carry=carry)


def _tick(granted: Sequence[Record], *, carry: bool) -> Tick:
    leases = tuple(_lease(row) for row in granted) if carry else ()
    return Tick(gangs=tuple(row.gang for row in granted), leases=leases)


_LENT = "b.shared AND b.next_check_at IS NOT NULL AND b.state IN ('queued', 'running')"
_BORROWERS = prepared(f"""
SELECT b.id FROM batch b WHERE b.pool_id = :p AND {_LENT}
ORDER BY (SELECT count(*) FROM request l WHERE l.batch_id = b.id AND l.gang_id IS NOT NULL), b.due_at, b.id
""")


def may_lend(pool: str) -> str:
    """SQL: whether items wait that warm gangs of the pool may run. `pool` is SQL for its ID."""
    return (
        f"EXISTS (SELECT FROM batch b WHERE b.pool_id = {pool} AND {_LENT}"
        " AND EXISTS (SELECT FROM request i WHERE i.batch_id = b.id AND i.state = 'queued'))"
    )


def _lend(tx: Tx, pool_id: str, slots: Sequence[Slot], *, carry: bool) -> list[Record]:
    """Warm gangs that nobody waits for run items of batches whose template allows it, one at a time.

    In turn, first for the batch that runs fewest: a large one lets small ones pass.
    """
    borrowers = deque(tx.execute(_BORROWERS, {"p": pool_id}).scalars() if slots else ())
    granted: list[Record] = []
    for slot in slots:
        lent: Sequence[Record] = ()
        while borrowers and not lent:
            batch_id = borrowers.popleft()
            if lent := items.hand(tx, batch_id, pool_id, slot, shared=True, carry=carry):
                borrowers.append(batch_id)
        granted += lent
    return granted


def _lease(row: Record) -> Lease:
    return Lease(
        gang=row.gang,
        incarnation=row.incarnation,
        slot=row.slot,
        attempt=row.attempt,
        request=row.request,
        number=row.number,
        token=row.token,
        tenant=row.tenant,
        input=row.input,
        files=row.files,
        timeout_s=row.timeout_s,
        pool_id=row.pool_id,
        spec=row.spec,
        traceparent=row.traceparent,
        tracestate=row.tracestate,
    )


def _free_slots(tx: Tx, pool_id: str, lease: timedelta, most: int) -> list[Slot]:
    """Of ready gangs that were seen within half a lease: those without one."""
    rows = tx.execute(_SLOTS, {"p": pool_id, "fresh": lease.total_seconds() / 2, "n": most}).all()
    shared = [row.id for row in rows if row.replicas > 1]
    taken = {(row.gang_id, row.slot) for row in tx.execute(_TAKEN, {"gangs": shared})} if shared else set()
    return [
        Slot(gang=row.id, incarnation=row.incarnation, number=number)
        for row in rows
        for number in range(row.replicas)
        if (row.id, number) not in taken
    ]


def _candidates(tx: Tx, pool_id: str, most: int) -> list[Candidate]:
    rows = tx.execute(_CANDIDATES, {"p": pool_id, "n": most, "credit": CREDIT}).all()
    return [Candidate(request=r.id, tenant=r.tenant, vtime=r.vtime, weight=r.weight) for r in rows]


def assign_batch(tx: Tx, gang_id: str, slot: int = 0, *, carry: bool = False) -> Tick:
    """Give a slot of a ready batch gang the next item, or the gang the request that it was launched for."""
    if granted := items.assign(tx, gang_id, slot, carry=carry):
        return _tick(granted, carry=carry)
    row = tx.execute(
        text(
            "SELECT g.incarnation, g.pool_id, r.id AS request_id, r.tenant FROM gang g"
            " JOIN request r ON r.id = g.request_id"
            " WHERE g.id = :g AND g.state = 'ready' AND r.state = 'queued' AND r.placement = 'batch'"
            " AND (r.start_by IS NULL OR r.start_by > clock_timestamp())"
            " AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL)"
            " FOR UPDATE OF r SKIP LOCKED FOR SHARE OF g SKIP LOCKED"
        ),
        {"g": gang_id},
    ).one_or_none()
    if row is None:
        return Tick()
    first = Slot(gang=gang_id, incarnation=row.incarnation)
    only = Assignment(request=row.request_id, tenant=row.tenant, slot=first)
    return _tick(granting.grant(tx, row.pool_id, [only], carry=carry), carry=carry)


_WITH_WORK = prepared(f"""
SELECT p.id FROM pool p WHERE (EXISTS (SELECT 1 FROM request r WHERE r.pool_id = p.id AND r.placement = 'warm'
                                       AND r.state = 'queued') OR {may_lend("p.id")})
  AND EXISTS (SELECT 1 FROM gang g WHERE g.pool_id = p.id AND g.state = 'ready')
""")


def pools_with_work(tx: Tx) -> Sequence[str]:
    """Pools that have both a due warm request, or an item that may run there, and a gang that might take it."""
    return tx.execute(_WITH_WORK).scalars().all()


_FREE_BATCH_SLOTS = prepared("""
SELECT g.id, s.slot FROM gang g CROSS JOIN generate_series(0, g.replicas - 1) s (slot)
WHERE g.mode = 'batch' AND g.state = 'ready'
  AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.gang_id = g.id AND a.slot = s.slot AND a.ended_at IS NULL)
  AND (s.slot = 0 AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL)
    OR EXISTS (SELECT 1 FROM request r WHERE r.batch_id = g.batch_id AND r.state = 'queued')) ORDER BY g.id, s.slot
""")


def free_batch_slots(tx: Tx) -> Sequence[tuple[str, int]]:
    """Of ready batch gangs: slots without a lease for which something waits, or the first where the gang is to go."""
    return [(row.id, row.slot) for row in tx.execute(_FREE_BATCH_SLOTS)]
