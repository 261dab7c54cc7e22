"""Gangs by the places that hold them, or should: what a look at the places is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from orchestrator.domain.states import GangState
from orchestrator.store import arrivals
from orchestrator.store.database import Record, Tx


def places(tx: Tx) -> Sequence[str]:
    """Where gangs are, or may still be."""
    return tx.execute(text("SELECT DISTINCT backend FROM gang WHERE state <> 'gone' OR present")).scalars().all()


def expected(tx: Tx, places: Sequence[str], settled: timedelta = timedelta(seconds=10)) -> Sequence[Record]:
    """Gangs that these places should hold, launched at least `settled` ago and not gone: ID, name, place and state."""
    return tx.execute(
        text(
            "SELECT id, name, backend, state FROM gang"
            " WHERE backend = ANY(:places) AND state NOT IN ('gone', 'planned')"
            " AND launched_at < clock_timestamp() - :s * interval '1 second'"
        ),
        {"places": [*places], "s": settled.total_seconds()},
    ).all()


_MISPLACED = text("""
SELECT id, state, mode FROM gang WHERE pool_id = :p AND state NOT IN ('gone', 'draining') AND backend = ANY(:places)
  AND planned_at < clock_timestamp() - :s * interval '1 second'
""")


def misplaced(tx: Tx, pool_id: str, elsewhere: Sequence[str], settled: timedelta) -> Sequence[Record]:
    """Gangs of the pool that are at one of these places, and were planned at least `settled` ago."""
    if not elsewhere:
        return ()
    return tx.execute(_MISPLACED, {"p": pool_id, "places": [*elsewhere], "s": settled.total_seconds()}).all()


_KNOWN = text(f"""
SELECT g.id, g.state, g.backend AS place, v.started_at IS NOT NULL AS arrived,
       g.state = 'gone' AND NOT g.present AND g.gone_at < clock_timestamp() - interval '1 minute' AS forgotten
FROM gang g {arrivals.JOIN} WHERE g.id = ANY(:ids)
""")


@dataclass(frozen=True, kw_only=True)
class Known:
    """Where a gang stands."""

    state: GangState
    place: str
    arrived: bool
    """When the nodes of this incarnation came is known."""
    forgotten: bool
    """It is gone, and a minute ago already nothing of it was to be left."""


def known(tx: Tx, gang_ids: Sequence[str]) -> dict[str, Known]:
    """Those that exist."""
    rows = tx.execute(_KNOWN, {"ids": list(gang_ids)}).all()
    return {
        row.id: Known(state=GangState(row.state), place=row.place, arrived=row.arrived, forgotten=row.forgotten)
        for row in rows
    }
