"""I14 and I15 as queries: a row is what its events say, all of them, each a legal move. For invariants.py."""

from __future__ import annotations

from orchestrator.store import batches, gangs, requests


def _gapless(table: str) -> str:
    return f"""
SELECT t.id, format('version %s, events %s', t.version, coalesce(array_agg(e.seq ORDER BY e.seq)::text, '{{}}'))
FROM {table} t LEFT JOIN event e ON e.subject = t.id
GROUP BY t.id, t.version HAVING count(e.seq) <> t.version OR coalesce(max(e.seq), 0) <> t.version
"""


def _folds(table: str, fold: str) -> str:
    return f"""
SELECT t.id, format('its row says %s, its last event %s', t.fold, coalesce(e.data::text, 'nothing'))
FROM (SELECT id, version, {fold} AS fold FROM {table}) t LEFT JOIN event e ON e.subject = t.id AND e.seq = t.version
WHERE (e.data @> t.fold) IS NOT TRUE
"""


def _legal(table: str) -> str:
    return f"""
SELECT s.subject, format('event %s: %s from %s to %s', s.seq, s.move, s.source, s.target)
FROM (SELECT e.subject, e.seq, e.move, e.data ->> 'state' AS target,
             coalesce(lag(e.data ->> 'state') OVER (PARTITION BY e.subject ORDER BY e.seq), '') AS source
      FROM event e JOIN {table} t ON t.id = e.subject) s
WHERE NOT EXISTS (
  SELECT FROM unnest(CAST(:{table}_move AS text[]), CAST(:{table}_source AS text[]), CAST(:{table}_target AS text[]))
    AS l (move, source, target) WHERE (l.move, l.source, l.target) = (s.move, s.source, s.target))
"""


CHECKS = (
    ("I14", _gapless("request")),
    ("I14", _gapless("gang")),
    ("I14", _gapless("batch")),
    ("I15", _folds("request", requests.FOLD)),
    ("I15", _folds("gang", gangs.FOLD)),
    ("I15", _folds("batch", batches.FOLD)),
    ("I15", _legal("request")),
    ("I15", _legal("gang")),
    ("I15", _legal("batch")),
)
