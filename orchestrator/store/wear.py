"""What the gangs of a pool have been through since they were ready. Counted, never stored."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import text

from orchestrator.domain.recycling import Policy, Wear, Worn, worn
from orchestrator.store.database import Record, Tx

_WEAR = text("""
SELECT g.id, extract(epoch FROM clock_timestamp() - g.first_ready_at) AS age_s,
       (SELECT count(*) FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NOT NULL
         AND a.outcome IN ('succeeded', 'failed', 'canceled')) AS requests,
       (SELECT count(*) FROM attempt a WHERE a.gang_id = g.id AND a.outcome = 'failed'
        AND a.reason_code IS DISTINCT FROM 'invalid_input'
        AND a.ended_at > coalesce((SELECT max(s.ended_at) FROM attempt s
                                   WHERE s.gang_id = g.id AND s.outcome = 'succeeded'), '-infinity')) AS failures,
       (SELECT max((k ->> 'grown_bytes')::bigint) FROM jsonb_array_elements(b.ranks) k) AS growth
FROM gang g LEFT JOIN gang_beat b ON b.gang_id = g.id AND b.incarnation = g.incarnation
WHERE g.pool_id = :p AND g.state = 'ready' AND g.mode = 'serve'
""")


def worn_gangs(tx: Tx, pool: Record) -> dict[str, Worn]:
    """Ready serve gangs that should be replaced, and why. Costs nothing where the template sets no limit."""
    policy = _policy(pool.spec.get("recycle") or {})
    if not policy.limits_anything:
        return {}
    judged = {row.id: worn(policy, _wear(row)) for row in tx.execute(_WEAR, {"p": pool.id})}
    return {gang: verdict for gang, verdict in judged.items() if verdict}


def _policy(spec: dict[str, Any]) -> Policy:
    age, growth = spec.get("max_age_s"), spec.get("max_rss_growth_mb")
    return Policy(
        max_age=timedelta(seconds=age) if age else None,
        max_requests=spec.get("max_requests"),
        max_growth_bytes=growth << 20 if growth else None,
        max_failures=spec.get("max_consecutive_failures"),
    )


def _wear(row: Record) -> Wear:
    return Wear(
        age=timedelta(seconds=float(row.age_s or 0.0)),
        requests=row.requests,
        growth_bytes=int(row.growth or 0),
        failures=row.failures,
    )
