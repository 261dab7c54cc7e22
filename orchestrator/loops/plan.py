"""Decides how many gangs each pool has: load, decide, record the intent. Nothing is launched here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from orchestrator.domain.batches import Want, give_way, share
from orchestrator.domain.pool_plan import gives_up, plan_pool
from orchestrator.domain.recycling import Worn
from orchestrator.domain.states import BatchReason, BatchState, GangState, Reason
from orchestrator.loops.desk import Desk, Report
from orchestrator.store import batches, gangs, items, planning, pools, requests, stranded, whereabouts
from orchestrator.store.database import Record, Tx
from orchestrator.store.planning import BatchGangs

MOVED_AFTER = timedelta(minutes=5)
"""So old a gang must be to be replaced because its place is another one now: while replicas roll, they do not agree."""


def run_once(desk: Desk) -> Report:
    """One look at every pool that has gangs, a minimum or waiting requests; each in a transaction of its own."""
    report = Report()
    for pool_id in desk.database.look(planning.pools_to_plan):
        done = desk.database.transact(lambda tx, p=pool_id: _plan(tx, desk, p))  # type: ignore[misc]
        for verb, subjects in done.did.items():
            report.note(verb, *subjects)
    desk.wake(requests=[*report.did.get("failed", ()), *report.did.get("placed", ())])
    idle = desk.database.look(planning.finished_batch_gangs)
    drained = [g for g in idle if desk.database.transact(lambda tx, g=g: _drain_done(tx, g))]  # type: ignore[misc]
    report.note("drained", *drained)
    desk.wake(gangs=report.did.get("drained", ()))
    return report


def _plan(tx: Tx, desk: Desk, pool_id: str) -> Report:
    """What was done in this transaction: a report of its own, for it may have to run again."""
    report = Report()
    pool = planning.lock_pool(tx, pool_id)
    if pool is None:
        return report
    report.note("failed", *_give_up(tx, pool))
    placed, failed = stranded.release(tx, pool)
    report.note("placed", *placed)
    report.note("failed", *failed)
    batch_gangs = _plan_warm(tx, desk, pool, _move(tx, desk, pool, report), report)
    _plan_batch(tx, desk, pool, batch_gangs, report)
    return report


def _drain_done(tx: Tx, gang_id: str) -> bool:
    return gangs.drain(tx, gang_id, Reason.DRAINED, "nothing is left for it")


def _move(tx: Tx, desk: Desk, pool: Record, report: Report) -> Mapping[str, Worn]:
    """Gangs that run where those of its tenant do not any more: a warm one goes once another has taken its place.

    Batch gangs go after what they run, and those that were never launched at once.
    """
    where = desk.places.addresses
    worn = Worn(why=f"gangs of {pool.tenant} run at {where.of(pool.tenant)} now", far=False)
    warm = {}
    for gang in whereabouts.misplaced(tx, pool.id, where.elsewhere(pool.tenant), MOVED_AFTER):
        if gang.mode == "serve" and gang.state != GangState.PLANNED:
            warm[gang.id] = worn
        elif gangs.drain(tx, gang.id, Reason.REPLACED, worn.why):
            report.note("drained", gang.id)
    return warm


def _plan_warm(tx: Tx, desk: Desk, pool: Record, moved: Mapping[str, Worn], report: Report) -> BatchGangs:
    """The batch gangs, which were looked at by the way."""
    view, batch_gangs = planning.view_pool(tx, pool, moved)
    plan = plan_pool(view)
    for _ in range(plan.launch):
        report.note("planned", gangs.plan(tx, pool, backend=desk.places.addresses.of(pool.tenant)))
    for gang_id in plan.drain:
        if gangs.drain(tx, gang_id, *_why_drained(pool)):
            report.note("drained", gang_id)
    worn = {gang.id: gang.worn.why for gang in view.gangs if gang.worn}
    for gang_id in plan.recycle:
        if gangs.drain(tx, gang_id, Reason.RECYCLED, f"recycled: {worn[gang_id]}"):
            report.note("drained", gang_id)
    return batch_gangs


def _why_drained(pool: Record) -> tuple[Reason, str]:
    if not pool.current:
        return Reason.REPLACED, "a newer version of its template exists"
    return Reason.IDLE, f"more gangs than the pool needs (min {pool.min_gangs}, idle for {pool.idle_timeout_s:g} s)"


def _plan_batch(tx: Tx, desk: Desk, pool: Record, batch_gangs: BatchGangs, report: Report) -> None:
    if pool.held:
        return
    room = max(0, int(pool.spec["batch"]["max_gangs"]) - batch_gangs.taken)
    wants = [Want(id=row.id, due_at=row.due_at, gangs=row.gangs, most=row.most) for row in items.wants(tx, pool.id)]
    alone = requests.waiting_for_batch_gang(tx, pool.id, max(1, room))
    wants += [Want(id=row.id, due_at=row.due_at, gangs=0, most=1) for row in alone]
    for key in share(room, wants):
        of = {"request_id": key} if key in {row.id for row in alone} else {"batch_id": key}
        report.note("planned", gangs.plan(tx, pool, backend=desk.places.addresses.of(pool.tenant), **of))
    for batch_id in give_way(wants, room + batch_gangs.leaving):
        if (gang_id := items.one_gang(tx, batch_id)) and gangs.drain(tx, gang_id, Reason.DRAINED, _GIVES_WAY):
            report.note("drained", gang_id)


_GIVES_WAY = "its batch has others, and somebody else waits without any"


def _give_up(tx: Tx, pool: Record) -> list[str]:
    """After a series of failed starts, what waits fails with the cause; the pool starts over for what comes later.

    A batch fails as a whole, with its items that wait.
    """
    last = pools.last_failed_start(tx, pool.id) if pool.failed_starts else None
    if last is None or not gives_up(pool.failed_starts, Reason(last.reason_code)):
        return []
    why = f"{pool.failed_starts} gangs in a row failed to start; the last one: {last.reason}"
    waiting = [*requests.queued_ids(tx, pool.id, "warm"), *requests.queued_ids(tx, pool.id, "batch")]
    hopeless = [row.id for row in items.wants(tx, pool.id) if not row.gangs]
    if waiting or hopeless:
        pools.forget_failed_starts(tx, pool.id)
    reason, cause = Reason(last.reason_code), pools.cause(tx, last)
    shut = reason is Reason.NAMESPACE_GONE
    for batch_id in hopeless:
        because = BatchReason.NAMESPACE_GONE if shut else BatchReason.NO_GANG
        batches.end(tx, batch_id, BatchState.FAILED, because, why)
    return [request for request in waiting if requests.fail_queued(tx, request, reason, why, cause=cause)]
