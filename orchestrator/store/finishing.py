"""Successes that are reported together are recorded together, and their gangs get what is due in their pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from orchestrator.errors import MusterError
from orchestrator.store import express, scheduling
from orchestrator.store.database import Database
from orchestrator.store.express import Freed, Report
from orchestrator.store.scheduling import Lease, Tick


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What became of one report."""

    freed: Freed | None
    """None: nothing was changed, this is not the usual case."""
    lease: Lease | None = None
    """The gang's next lease."""


@dataclass(frozen=True, kw_only=True)
class Endings:
    """What became of a group of reports: one answer for each, in their order."""

    each: tuple[Ending, ...]
    others: tuple[Lease, ...]
    """Granted to gangs that did not report here: they must be told."""
    contended: bool
    """Somebody else assigns in one of the pools: look again soon."""


class Finisher:
    """Takes reports for one replica."""

    def __init__(self, database: Database, lease: timedelta) -> None:
        self._database = database
        self._lease = lease

    def finish(self, reports: Sequence[Report], watching: Sequence[str]) -> Endings:
        """Record the successes and assign what is due."""
        freed = self._succeed(reports, watching)
        ticks = [
            self._assign(pool) for pool in sorted({each.pool for each in freed.values() if each.pool and each.due})
        ]
        leases = {(lease.gang, lease.slot): lease for tick in ticks for lease in tick.leases}
        each = []
        for report in reports:
            mine = freed.pop(report.attempt, None)
            each.append(Ending(freed=mine, lease=leases.pop((mine.gang, mine.slot), None) if mine else None))
        contended = any(tick.contended for tick in ticks)
        return Endings(each=tuple(each), others=tuple(leases.values()), contended=contended)

    def _succeed(self, reports: Sequence[Report], watching: Sequence[str]) -> dict[str, Freed]:
        try:
            return self._database.single(lambda tx: express.succeed(tx, reports, watching))
        except DBAPIError:
            if len(reports) == 1:
                return {}
        return {key: freed for report in reports for key, freed in self._succeed([report], watching).items()}

    def _assign(self, pool: str) -> Tick:
        """What fails here fails nobody's report."""
        try:
            return self._database.transact(
                lambda tx: scheduling.assign_pool(tx, pool, self._lease, patient=True, carry=True)
            )
        except (MusterError, DBAPIError):
            return Tick(contended=True)
