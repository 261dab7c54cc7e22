"""How the nodes of a gang came, once per incarnation, in the database's time: as a place told it, by its own clocks.

It must not know pods. A place that tells nothing leaves no row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from orchestrator.domain.arrival import Arrival, Way, now_in
from orchestrator.store.database import Record, Tx


@dataclass(frozen=True, kw_only=True)
class Told:
    """By the clocks of the place; `made`: when it took the gang."""

    made: datetime
    scheduled: datetime | None
    started: datetime | None
    word: str | None


COMING = "CASE WHEN g.state = 'launching' THEN g.incarnation + 1 ELSE greatest(g.incarnation, 1) END"
"""The incarnation of gang `g` that starts, or is there."""
JOIN = f"LEFT JOIN gang_arrival v ON v.gang_id = g.id AND v.incarnation = {COMING}"
SHOWN = """v.gang_id IS NOT NULL AS told, v.scheduled_at, v.started_at AS pods_started_at, v.word,
       CASE WHEN g.state <> 'launching' THEN NULL WHEN g.incarnation = 0 THEN g.launched_at ELSE
         (SELECT e.at FROM event e WHERE e.subject = g.id AND e.seq = g.version) END AS way_began_at"""
"""What `of` and `coming` read, of a gang with what `JOIN` brings."""

_NOTE = text(f"""
INSERT INTO gang_arrival AS known (gang_id, incarnation, scheduled_at, started_at, word)
SELECT g.id, {COMING}, t.scheduled + c.ahead, t.started + c.ahead, t.word
FROM unnest(CAST(:ids AS text[]), CAST(:made AS timestamptz[]), CAST(:scheduled AS timestamptz[]),
            CAST(:started AS timestamptz[]), CAST(:words AS text[])) AS t (id, made, scheduled, started, word)
JOIN gang g USING (id) {JOIN}
CROSS JOIN LATERAL (SELECT greatest(g.planned_at, least(g.launched_at, t.made)) - t.made AS ahead) c
WHERE g.state = 'launching' OR g.state IN ('loading', 'ready') AND v.started_at IS NULL AND t.started IS NOT NULL
ORDER BY g.id
ON CONFLICT (gang_id, incarnation) DO UPDATE SET scheduled_at = excluded.scheduled_at,
  started_at = excluded.started_at, word = coalesce(excluded.word, known.word)
WHERE (known.scheduled_at, known.started_at, known.word)
  IS DISTINCT FROM (excluded.scheduled_at, excluded.started_at, coalesce(excluded.word, known.word))
""")


def note(tx: Tx, told: Mapping[str, Told]) -> None:
    """What a place says of its gangs, by ID. Writes only what is new; what a life that said hello left is not changed.

    The place took the gang between its plan and the record of its launch. By so much as its own clock says otherwise,
    its clock is off, and its other moments are put right.
    """
    if told:
        values = {
            "ids": [*told],
            "made": [one.made for one in told.values()],
            "scheduled": [one.scheduled for one in told.values()],
            "started": [one.started for one in told.values()],
            "words": [one.word for one in told.values()],
        }
        tx.execute(_NOTE, values)


_MOST = 500
_OF = text("""
SELECT gang_id, incarnation, scheduled_at, started_at AS pods_started_at, word FROM gang_arrival
WHERE gang_id = ANY(:ids) ORDER BY gang_id, incarnation LIMIT :n
""")


def of_gangs(tx: Tx, ids: Sequence[str]) -> dict[tuple[str, int], Arrival]:
    """By gang and incarnation."""
    rows = tx.execute(_OF, {"ids": list(ids), "n": _MOST}).all()
    return {(row.gang_id, row.incarnation): _arrival(row) for row in rows}


def of(row: Record) -> Arrival | None:
    """Of a row with what `SHOWN` names."""
    return _arrival(row) if row.told else None


def coming(row: Record) -> Way | None:
    """The stretch that a gang is in on its way to its first line, if its place tells. `row` as for `of`."""
    arrival = of(row)
    if arrival is None or row.way_began_at is None:
        return None
    return now_in(row.way_began_at, arrival, again=row.incarnation > 0)


def _arrival(row: Record) -> Arrival:
    return Arrival(scheduled=row.scheduled_at, started=row.pods_started_at, word=row.word or "")
