"""Gives free gangs what is due: the safety net below the submit, which tries the same at once."""

from __future__ import annotations

from orchestrator.domain.states import Reason
from orchestrator.loops.desk import Desk, Report
from orchestrator.store import gangs, planning, scheduling


def run_once(desk: Desk) -> Report:
    """One look at every pool with both work and gangs, and at batch gangs that hold nothing."""
    report = Report()
    for pool_id in desk.database.look(scheduling.pools_with_work):
        _fill(desk, pool_id, report)
    for gang_id, slot in desk.database.look(scheduling.free_batch_slots):
        _serve_batch(desk, gang_id, slot, report)
    return report


def _fill(desk: Desk, pool_id: str, report: Report) -> None:
    tick = desk.database.transact(lambda tx: scheduling.assign_pool(tx, pool_id, desk.settings.lease))
    report.note("assigned", *tick.gangs)
    desk.wake(gangs=tick.gangs)


def _serve_batch(desk: Desk, gang_id: str, slot: int, report: Report) -> None:
    tick = desk.database.transact(lambda tx: scheduling.assign_batch(tx, gang_id, slot))
    if tick.gangs:
        report.note("assigned", *tick.gangs)
        desk.wake(gangs=tick.gangs)
        return
    finished = desk.database.look(planning.finished_batch_gangs)
    if gang_id in finished:
        desk.database.transact(lambda tx: gangs.drain(tx, gang_id, Reason.DRAINED, "nothing is left for it"))
        report.note("drained", gang_id)
        desk.wake(gangs=[gang_id])
