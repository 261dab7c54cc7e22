"""When what happened to a request: its attempts, the gangs it waited for and ran on, and their moves. Read-only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from orchestrator.domain.arrival import Arrival
from orchestrator.store import arrivals, pools
from orchestrator.store.database import Record, Tx

_MOST_ATTEMPTS = 50
_MOST_GANGS = 10
_MOST_MOVES = 500


@dataclass(frozen=True, kw_only=True)
class History:
    """`tries` in their order; `gangs` and their `moves`, oldest first; `now` by the database's clock."""

    tries: Sequence[Record]
    gangs: Sequence[Record]
    moves: Sequence[Record]
    arrivals: Mapping[tuple[str, int], Arrival]
    """How the nodes of the gangs came, by gang and incarnation."""
    now: datetime
    schedule: str | None
    """The schedule that sent it, by name."""
    files: dict[str, dict[str, Any]]
    """What its input names, by input."""


def of_request(tx: Tx, row: Record) -> History:
    """`row` as `requests.get` reads it."""
    tries = tx.execute(_TRIES, {"r": row.id, "n": _MOST_ATTEMPTS}).all()
    gangs = tx.execute(
        _GANGS,
        {
            "ids": sorted({one.gang_id for one in tries} | _awaited(tx, row)),
            "own": row.id if row.placement == "batch" and row.batch_id is None else None,
            "pool": row.pool_id,
            "since": row.created_at,
            "n": _MOST_GANGS,
        },
    ).all()
    moves = tx.execute(_MOVES, {"ids": [gang.id for gang in gangs], "n": _MOST_MOVES}).all()
    about = tx.execute(_ABOUT, {"r": row.id}).one()
    return History(
        tries=tries,
        gangs=gangs,
        moves=moves,
        arrivals=arrivals.of_gangs(tx, [gang.id for gang in gangs]),
        now=about.now,
        schedule=about.schedule,
        files=files_of(tx, row.id),
    )


def files_of(tx: Tx, request_id: str) -> dict[str, dict[str, Any]]:
    """What the input names: by input, where the file lies and what it must be."""
    return tx.execute(_FILES, {"r": request_id}).scalar_one_or_none() or {}


_FILES = text("SELECT files FROM payload WHERE request_id = :r")


def _awaited(tx: Tx, row: Record) -> set[str]:
    """The gang whose start the request waits for."""
    if row.state != "queued":
        return set()
    starting = pools.starting_gang(tx, row.pool_id, (row.batch_id or row.id) if row.placement == "batch" else None)
    return {starting.id} if starting is not None else set()


_TRIES = text("""
SELECT id, number, gang_id, incarnation, granted_at, started_at, ended_at, outcome, reason_code, reason, rank, node,
       run_s, trail
FROM attempt WHERE request_id = :r ORDER BY number LIMIT :n
""")
_GANGS = text("""
WITH asked AS (
  SELECT unnest(CAST(:ids AS text[])) AS id
  UNION (SELECT id FROM gang WHERE pool_id = :pool AND planned_at >= :since AND request_id = :own
         ORDER BY planned_at LIMIT :n)
)
SELECT g.id, g.name, g.mode, g.state, g.backend, g.reason_code, g.reason, g.world, g.nodes, g.incarnation, g.phases,
       g.planned_at, g.launched_at, g.first_ready_at, g.gone_at, g.seen_reason, g.seen_detail,
       b.starting, b.starting_at
FROM asked JOIN gang g USING (id) LEFT JOIN gang_beat b ON b.gang_id = g.id AND b.incarnation = g.incarnation
ORDER BY g.planned_at
""")
_MOVES = text("""
SELECT subject, seq, at, move, (data ->> 'incarnation')::int AS incarnation FROM event
WHERE subject = ANY(:ids) AND move IN ('plan', 'launch', 'hello', 'ready', 'break', 'drain', 'end')
ORDER BY subject, seq LIMIT :n
""")
_ABOUT = text("""
SELECT clock_timestamp() AS now,
       (SELECT s.name FROM schedule_fire f JOIN schedule s ON s.id = f.schedule_id WHERE f.request_id = :r) AS schedule
""")
