"""I17 as queries: one run for a tick, and every tick a run or a recorded skip. For invariants.py."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text

from orchestrator.domain.schedules import Policy
from orchestrator.store.database import Tx

RUN_EXISTS = """
SELECT f.schedule_id, format('tick %s ran as %s, which was never recorded', f.tick, coalesce(request_id, batch_id))
FROM schedule_fire f WHERE f.state = 'ran'
  AND NOT EXISTS (SELECT FROM request WHERE id = f.request_id)
  AND NOT EXISTS (SELECT FROM purged WHERE id = f.request_id) AND NOT EXISTS (SELECT FROM batch WHERE id = f.batch_id)
  AND NOT EXISTS (SELECT FROM purged WHERE id = f.batch_id)
"""
RUN_ONCE = """
SELECT run, format('%s ticks say that they ran as this', count(*))
FROM (SELECT coalesce(request_id, batch_id) AS run FROM schedule_fire WHERE state = 'ran') f
GROUP BY run HAVING count(*) > 1
"""
OF_A_VERSION = """
SELECT f.schedule_id, format('tick %s of version %s, which was said from %s', f.tick, f.version, v.since)
FROM schedule_fire f JOIN schedule s ON s.id = f.schedule_id
LEFT JOIN schedule_version v ON (v.schedule_id, v.version) = (f.schedule_id, f.version)
LEFT JOIN schedule_version n ON (n.schedule_id, n.version) = (f.schedule_id, f.version + 1)
WHERE v.version IS NULL OR f.tick < v.since OR f.tick > coalesce(n.since, 'infinity')
"""
CHECKS = (("I17", RUN_EXISTS), ("I17", RUN_ONCE), ("I17", OF_A_VERSION))

_VERSIONS = text("""
SELECT v.schedule_id, v.policy, greatest(v.since, s.pruned_before) AS since,
       least(s.minted_until, (SELECT n.since FROM schedule_version n
         WHERE n.schedule_id = v.schedule_id AND n.version = v.version + 1)) AS until,
       (SELECT coalesce(array_agg(f.tick), '{}') FROM schedule_fire f
         WHERE (f.schedule_id, f.version) = (v.schedule_id, v.version) AND NOT f.triggered) AS ticks
FROM schedule_version v JOIN schedule s ON s.id = v.schedule_id
""")


def unaccounted(tx: Tx) -> list[tuple[str, str]]:
    """Ticks that the rules name and no row does, and rows that no rule names."""
    found = []
    for row in tx.execute(_VERSIONS):
        known, named = set[datetime](row.ticks), set(Policy.model_validate(row.policy).ticks(row.since, row.until))
        found += [(row.schedule_id, f"no row of the tick {tick.isoformat()}") for tick in sorted(named - known)]
        found += [
            (row.schedule_id, f"its rule names no tick {tick.isoformat()}")
            for tick in sorted(known - named)
            if tick > row.since
        ]
    return found
