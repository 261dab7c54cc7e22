"""I18 as queries: counts are what the items say, and a batch is over when they are. For invariants.py."""

from __future__ import annotations

TALLIED = """
SELECT b.id, format('%s items are %s, its tally says %s', coalesce(r.n, 0), s.state, coalesce(t.n, 0))
FROM batch b CROSS JOIN unnest(CAST(:terminal AS text[])) AS s (state)
LEFT JOIN (SELECT batch_id, state, count(*) AS n FROM request WHERE batch_id IS NOT NULL AND replaced_by IS NULL
           GROUP BY batch_id, state) r ON (r.batch_id, r.state) = (b.id, s.state)
LEFT JOIN (SELECT batch_id, state, sum(items) AS n FROM batch_tally GROUP BY batch_id, state) t
  ON (t.batch_id, t.state) = (b.id, s.state)
WHERE coalesce(r.n, 0) <> coalesce(t.n, 0)
"""
SPENT = """
SELECT b.id, format('its items used %s GPU-seconds, its tally says %s', coalesce(r.n, 0), coalesce(t.n, 0)) FROM batch b
LEFT JOIN (SELECT batch_id, sum(gpu_seconds) AS n FROM request JOIN usage u ON u.request_id = id
           WHERE batch_id IS NOT NULL GROUP BY batch_id) r ON r.batch_id = b.id
LEFT JOIN (SELECT batch_id, sum(gpu_seconds) AS n FROM batch_tally GROUP BY batch_id) t ON t.batch_id = b.id
WHERE abs(coalesce(r.n, 0) - coalesce(t.n, 0)) > 1e-6 * (1 + coalesce(r.n, 0))
"""
ALL_ITEMS = """
SELECT b.id, format('%s, of %s items, with %s, %s of them open', b.state, b.items, count(r.id),
                    count(r.id) FILTER (WHERE r.finished_at IS NULL))
FROM batch b LEFT JOIN request r ON r.batch_id = b.id AND r.replaced_by IS NULL
GROUP BY b.id HAVING count(r.id) <> b.items
    OR (b.finished_at IS NOT NULL AND count(r.id) FILTER (WHERE r.finished_at IS NULL) > 0)
"""
ORPHAN_ITEM = """
SELECT r.id, format('an item of %s, replaced by %s', r.batch_id, coalesce(r.replaced_by, 'nothing'))
FROM request r LEFT JOIN batch b ON b.id = r.batch_id LEFT JOIN request n ON n.id = r.replaced_by
WHERE r.batch_id IS NOT NULL AND (b.id IS NULL OR r.replaced_by IS NOT NULL AND (r.finished_at IS NULL
  OR n.retry_of IS DISTINCT FROM r.id OR (n.batch_id, n.line, n.custom_id) <> (r.batch_id, r.line, r.custom_id)))
"""
MOST_PARALLEL = """
SELECT b.id, format('%s items on gangs, at most %s may be', count(*), b.max_parallel * p.replicas)
FROM batch b JOIN request r ON r.batch_id = b.id AND r.gang_id IS NOT NULL
CROSS JOIN LATERAL (SELECT coalesce((spec ->> 'replicas')::int, 1) AS replicas FROM pool WHERE id = b.pool_id) p
GROUP BY b.id, p.replicas HAVING count(*) > b.max_parallel * p.replicas
"""
CHECKS = (("I18", TALLIED), ("I18", SPENT), ("I18", ALL_ITEMS), ("I18", ORPHAN_ITEM), ("I18", MOST_PARALLEL))
