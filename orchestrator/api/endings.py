"""What the end of an incarnation means to those who wait, whichever call brought it."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.api.office import Office
from orchestrator.domain.states import Reason
from orchestrator.store import incarnations, templates
from orchestrator.store.database import Tx
from orchestrator.store.gangs import Ended


def break_off(
    tx: Tx, gang: str, reason: Reason, why: str, rank: int | None, node: str | None, slot: int | None = None
) -> Ended | None:
    start = timedelta(seconds=templates.start_timeout_s(tx, gang))
    return incarnations.break_incarnation(tx, gang, reason, why, start, rank=rank, node=node, slot=slot)


def settle(here: Office, ended: Ended | None) -> None:
    """Wake whoever waits for what just ended, and let the loops look for another gang."""
    if ended is None:
        return
    here.wake(gangs=[ended.gang], requests=[finished.request for finished in ended.requests])
    here.ring("schedule")
    here.ring("plan")
