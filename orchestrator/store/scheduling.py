"""The scheduler's transaction: one at a time per pool, held by the pool's row (facts: a claim by workers breaks caps).

Read slots and candidates under the lock, choose in Python, write by ID. A replica that finds the row locked returns at
once: whoever holds it is doing the work.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from orchestrator.domain.placement import Assignment, Candidate, PoolLoad, Slot, choose
from orchestrator.domain.pool_plan import GangView, PoolView
from orchestrator.domain.recycling import Worn
from orchestrator.store import granting, items, wear
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
_BORROWERS = prepared(f"SELECT b.id FROM batch b WHERE b.pool_id = :p AND {_LENT} ORDER BY b.due_at, b.id")


def may_lend(pool: str) -> str:
    """SQL: whether items wait that warm gangs of the pool may run. `pool` is SQL for its ID."""
    return (
        f"EXISTS (SELECT FROM batch b WHERE b.pool_id = {pool} AND {_LENT}"
        " AND EXISTS (SELECT FROM request i WHERE i.batch_id = b.id AND i.state = 'queued'))"
    )


def _lend(tx: Tx, pool_id: str, slots: Sequence[Slot], *, carry: bool) -> list[Record]:
    """Warm gangs that nobody waits for run items of batches whose template allows it, one at a time."""
    borrowers = tx.execute(_BORROWERS, {"p": pool_id}).scalars().all() if slots else []
    granted: list[Record] = []
    for slot in slots:
        lent: Sequence[Record] = ()
        while borrowers and not lent:
            lent = items.hand(tx, borrowers[0], pool_id, slot, shared=True, carry=carry)
            borrowers = borrowers if lent else borrowers[1:]
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
    only = Assignment(request=row.request_id, tenant=row.tenant, slot=first, vtime=0.0)
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


# ---------------------------------------------------------------------------------------------- load, for decisions

_LOAD = prepared("""
SELECT count(*) FILTER (WHERE g.state IN ('planned', 'launching', 'loading')) AS starting,
       count(*) FILTER (WHERE g.state = 'ready' AND a.id IS NOT NULL) AS busy,
       count(*) FILTER (WHERE g.state = 'ready' AND a.id IS NULL) AS idle,
       (SELECT count(*) FROM (SELECT 1 FROM request r WHERE r.pool_id = :p AND r.placement = 'warm'
                              AND r.state = 'queued' LIMIT 1000) q) AS queued
FROM gang g LEFT JOIN attempt a ON a.gang_id = g.id AND a.ended_at IS NULL
WHERE g.pool_id = :p AND g.mode = 'serve' AND g.state NOT IN ('gone', 'draining')
""")
_LOAD_IN_PARTS = prepared("""
SELECT coalesce(sum(g.replicas) FILTER (WHERE g.state <> 'ready'), 0) AS starting,
       coalesce(sum(l.n) FILTER (WHERE g.state = 'ready'), 0) AS busy,
       coalesce(sum(g.replicas - l.n) FILTER (WHERE g.state = 'ready'), 0) AS idle,
       (SELECT count(*) FROM (SELECT 1 FROM request r WHERE r.pool_id = :p AND r.placement = 'warm'
                              AND r.state = 'queued' LIMIT 1000) q) AS queued
FROM gang g
CROSS JOIN LATERAL (SELECT count(*) AS n FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL) l
WHERE g.pool_id = :p AND g.mode = 'serve' AND g.state NOT IN ('gone', 'draining')
""")
"""Of gangs with several replicas: these are what is idle or busy."""
_HISTORY = prepared("""
SELECT (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY run_s) FROM
         (SELECT run_s FROM usage WHERE pool_id = :p AND run_s > 0 ORDER BY created_at DESC LIMIT 20) u) AS run_s,
       (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY cold_s) FROM
         (SELECT extract(epoch FROM first_ready_at - launched_at) AS cold_s FROM gang
          WHERE pool_id = :p AND first_ready_at IS NOT NULL ORDER BY planned_at DESC LIMIT 10) c) AS cold_s
""")


def pool_load(tx: Tx, pool: Record, *, history: bool) -> PoolLoad:
    """The pool as placement sees it; medians of recent runs and starts only when asked for."""
    query = _LOAD if replicas_of(pool) == 1 else _LOAD_IN_PARTS
    load = _load(tx.execute(query, {"p": pool.id}).one(), pool)
    return with_history(tx, pool, load) if history else load


def replicas_of(pool: Record) -> int:
    """Of each gang of the pool."""
    return int(pool.spec.get("replicas", 1))


def with_history(tx: Tx, pool: Record, load: PoolLoad) -> PoolLoad:
    """Medians of recent runs and starts added."""
    past = tx.execute(_HISTORY, {"p": pool.id}).one()
    return replace(
        load,
        run_s=None if past.run_s is None else float(past.run_s),
        cold_s=None if past.cold_s is None else float(past.cold_s),
    )


def _load(row: Record, pool: Record) -> PoolLoad:
    return PoolLoad(
        idle=int(row.idle),
        busy=int(row.busy),
        starting=int(row.starting),
        queued=row.queued,
        max_gangs=pool.max_gangs,
        run_s=None,
        cold_s=None,
        held=pool.held_reason,
        replicas=replicas_of(pool),
    )


_TO_PLAN = prepared("""
SELECT p.id FROM pool p WHERE (p.current AND p.min_gangs > 0)
  OR EXISTS (SELECT 1 FROM gang g WHERE g.pool_id = p.id AND g.state <> 'gone')
  OR EXISTS (SELECT 1 FROM request r WHERE r.pool_id = p.id AND r.state = 'queued') ORDER BY p.id
""")


def pools_to_plan(tx: Tx) -> Sequence[str]:
    """Pools that may need a change: current ones with a minimum, any with live gangs or waiting requests."""
    return tx.execute(_TO_PLAN).scalars().all()


_LOCK_WHOLE = prepared("""
SELECT p.*, coalesce(p.held_until > clock_timestamp(), false) AS held FROM pool p WHERE p.id = :p
FOR UPDATE OF p SKIP LOCKED
""")


def lock_pool(tx: Tx, pool_id: str) -> Record | None:
    """The pool's row, locked; None while another replica plans it or assigns in it."""
    return tx.execute(_LOCK_WHOLE, {"p": pool_id}).one_or_none()


_VIEW_GANGS = prepared("""
SELECT g.id, g.state, g.mode, l.leases,
       CASE WHEN l.leases = 0 THEN extract(epoch FROM clock_timestamp() - greatest(g.ready_at,
         (SELECT max(e.ended_at) FROM attempt e WHERE e.gang_id = g.id))) END AS idle_s
FROM gang g
CROSS JOIN LATERAL (SELECT count(*) AS leases FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL) l
WHERE g.pool_id = :p AND g.state NOT IN ('gone', 'draining')
""")
_DUE_NOW = prepared("""
SELECT count(*) FROM (SELECT 1 FROM request WHERE pool_id = :p AND placement = 'warm' AND state = 'queued'
                      AND run_at <= clock_timestamp() LIMIT 1000) q
""")


_ENDING = prepared("""
SELECT count(*) FILTER (WHERE mode = 'serve') AS serve, count(*) FILTER (WHERE mode = 'batch') AS batch
FROM gang WHERE pool_id = :p AND (state = 'draining'
  OR state = 'gone' AND present AND gone_at > clock_timestamp() - interval '10 minutes')
""")
"""Gangs whose processes may still run. What a place never takes back counts for ten minutes: it may be lost itself."""


def view_pool(tx: Tx, pool: Record, moved: Mapping[str, Worn] | None = None) -> tuple[PoolView, int]:
    """The pool as its plan sees it, and of how many batch gangs processes may run.

    `moved`: gangs that are to be replaced for another reason than wear.
    """
    rows = tx.execute(_VIEW_GANGS, {"p": pool.id}).all()
    ending = tx.execute(_ENDING, {"p": pool.id}).one()
    worn = {**(moved or {}), **wear.worn_gangs(tx, pool)}
    gangs = [
        GangView(
            id=row.id,
            starting=row.state != "ready",
            busy=row.leases > 0,
            leases=row.leases,
            idle_for=timedelta(seconds=float(row.idle_s or 0.0)),
            worn=worn.get(row.id),
        )
        for row in rows
        if row.mode == "serve"
    ]
    view = PoolView(
        queued=int(tx.execute(_DUE_NOW, {"p": pool.id}).scalar_one()),
        min_gangs=pool.min_gangs,
        max_gangs=pool.max_gangs,
        idle_timeout=timedelta(seconds=pool.idle_timeout_s),
        current=pool.current,
        held=bool(pool.held),
        gangs=gangs,
        ending=ending.serve,
        replicas=replicas_of(pool),
    )
    return view, ending.batch + sum(1 for row in rows if row.mode == "batch")


_FINISHED_ALONE = prepared("""
SELECT g.id FROM gang g LEFT JOIN request r ON r.id = g.request_id WHERE g.request_id IS NOT NULL
  AND g.state NOT IN ('gone', 'draining') AND (r.id IS NULL OR r.finished_at IS NOT NULL)
""")


def finished_batch_gangs(tx: Tx) -> Sequence[str]:
    """Live batch gangs for which nothing is left: their request is terminal or deleted since, or no item waits."""
    return [*tx.execute(_FINISHED_ALONE).scalars(), *items.gangs_without_work(tx)]
