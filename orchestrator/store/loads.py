"""What a pool has to do, as placement sees it: gangs that are idle, busy or starting, and what waits. Read-only."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.domain.placement import PoolLoad
from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared

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
