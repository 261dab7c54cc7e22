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
    others: tuple[Lease, ...] = ()
    """Of gangs that did not report here: they must be told."""
    contended: bool = False
    """Somebody else assigns in the pool: look again soon."""


class Finisher:
    """Takes reports for one replica."""

    def __init__(self, database: Database, lease: timedelta) -> None:
        self._database = database
        self._lease = lease

    def finish(self, reports: Sequence[Report], watching: Sequence[str]) -> list[Ending | Exception]:
        """One answer for each report, in their order."""
        freed = self._succeed(reports, watching)
        ticks = [
            self._assign(pool) for pool in sorted({each.pool for each in freed.values() if each.pool and each.due})
        ]
        leases = {lease.gang: lease for tick in ticks for lease in tick.leases}
        contended = any(tick.contended for tick in ticks)
        endings: list[Ending | Exception] = []
        for report in reports:
            mine = freed.pop(report.attempt, None)
            lease = leases.pop(mine.gang, None) if mine else None
            endings.append(Ending(freed=mine, lease=lease, contended=contended))
        if leases and isinstance(last := endings[-1], Ending):
            endings[-1] = Ending(
                freed=last.freed, lease=last.lease, others=tuple(leases.values()), contended=last.contended
            )
        return endings

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
