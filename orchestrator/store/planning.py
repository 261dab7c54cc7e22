"""The pool as its plan sees it: who lives, who leaves, what is due; held by the pool's row while it is planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.domain.pool_plan import GangView, PoolView
from orchestrator.domain.recycling import Worn
from orchestrator.store import items, wear
from orchestrator.store.database import Record, Tx
from orchestrator.store.loads import replicas_of
from orchestrator.store.prepared import prepared

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


@dataclass(frozen=True, kw_only=True)
class BatchGangs:
    """Those of a pool of which processes may run."""

    living: int
    leaving: int
    """That are not wanted any more."""

    @property
    def taken(self) -> int:
        return self.living + self.leaving


def view_pool(tx: Tx, pool: Record, moved: Mapping[str, Worn] | None = None) -> tuple[PoolView, BatchGangs]:
    """The pool as its plan sees it, and its batch gangs.

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
    return view, BatchGangs(living=sum(1 for row in rows if row.mode == "batch"), leaving=ending.batch)


_FINISHED_ALONE = prepared("""
SELECT g.id FROM gang g LEFT JOIN request r ON r.id = g.request_id WHERE g.request_id IS NOT NULL
  AND g.state NOT IN ('gone', 'draining') AND (r.id IS NULL OR r.finished_at IS NOT NULL)
""")


def finished_batch_gangs(tx: Tx) -> Sequence[str]:
    """Live batch gangs for which nothing is left: their request is terminal or deleted since, or no item waits."""
    return [*tx.execute(_FINISHED_ALONE).scalars(), *items.gangs_without_work(tx)]
