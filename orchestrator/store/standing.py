"""The numbers of the whole installation for the metrics: open rows only, through their indexes. Read-only."""

from __future__ import annotations

from collections import Counter

from orchestrator.domain.standing import PoolStanding, Standing
from orchestrator.store.database import Tx
from orchestrator.store.prepared import prepared

_REQUESTS = prepared("""
SELECT tenant, template, state, count(*) AS n,
       extract(epoch FROM clock_timestamp() - min(created_at) FILTER (WHERE state = 'queued')) AS oldest_s
FROM request WHERE next_check_at IS NOT NULL GROUP BY tenant, template, state
""")
_GANGS = prepared("""
SELECT g.template, count(*) AS n,
       CASE WHEN g.state <> 'ready' THEN g.state WHEN EXISTS (
         SELECT FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL) THEN 'busy' ELSE 'idle' END AS state
FROM gang g
WHERE g.state <> 'gone' GROUP BY 1, 3
""")
_POOLS = prepared("""
SELECT template, sum(min_gangs) AS low, sum(max_gangs) AS high,
       bool_or(coalesce(held_until > clock_timestamp(), false)) AS held
FROM pool WHERE current GROUP BY template
""")
_BATCHES = prepared("""
SELECT template, state, count(*) AS n,
       count(*) FILTER (WHERE state IN ('queued', 'running') AND NOT EXISTS (
         SELECT FROM request r WHERE r.batch_id = b.id AND r.gang_id IS NOT NULL)) AS idle
FROM batch b WHERE next_check_at IS NOT NULL GROUP BY template, state
""")
_DELIVERIES = prepared("""
SELECT count(*) AS n, coalesce(extract(epoch FROM clock_timestamp() - min(at)), 0) AS oldest_s
FROM (SELECT at FROM delivery WHERE next_at IS NOT NULL LIMIT 100000) d
""")


def read(tx: Tx) -> Standing:
    """What stands now. Five short statements, whatever the number of what has ended."""
    requests: dict[tuple[str, str], int] = {}
    tenants: dict[tuple[str, str], int] = {}
    oldest: dict[str, float] = {}
    for row in tx.execute(_REQUESTS).all():
        requests[row.template, row.state] = requests.get((row.template, row.state), 0) + row.n
        tenants[row.tenant, row.state] = tenants.get((row.tenant, row.state), 0) + row.n
        if row.oldest_s is not None:
            oldest[row.template] = max(oldest.get(row.template, 0.0), float(row.oldest_s))
    batches = tx.execute(_BATCHES).all()
    deliveries = tx.execute(_DELIVERIES).one()
    idle: Counter[str] = Counter()
    for row in batches:
        idle[row.template] += row.idle
    return Standing(
        requests=requests,
        oldest_s=oldest,
        gangs={(row.template, row.state): row.n for row in tx.execute(_GANGS).all()},
        pools={
            row.template: PoolStanding(min_gangs=int(row.low), max_gangs=int(row.high), held=row.held)
            for row in tx.execute(_POOLS).all()
        },
        batches={(row.template, row.state): row.n for row in batches},
        batches_idle=idle,
        deliveries=deliveries.n,
        oldest_delivery_s=float(deliveries.oldest_s),
        tenants=tenants,
    )
