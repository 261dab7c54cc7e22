"""Looks at open batches: reads those that came by name, ends items that are not to start, says when all are over."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta

from orchestrator.domain.batches import Close, End, Pause, decide
from orchestrator.domain.states import BatchReason, BatchState, Reason
from orchestrator.errors import MusterError
from orchestrator.loops.desk import Desk, Report
from orchestrator.store import batch_figures as figures
from orchestrator.store import batches, items
from orchestrator.store.database import Record, Tx

log = logging.getLogger("muster.batches")

VALIDATION = timedelta(minutes=10)
"""How long a replica may look at the lines of a batch before another one begins anew."""
LOOK = timedelta(seconds=1)
"""Between two looks at a batch to which nothing happens."""
CHUNK = 2000
"""Items that one transaction ends."""
Read = Callable[[Record], None]


def run_once(desk: Desk, read: Read) -> Report:
    """`read` looks at the lines of a batch that names its source, and accepts or refuses it."""
    report = Report()
    while (named := desk.database.transact(lambda tx: batches.claim_validation(tx, VALIDATION))) is not None:
        _read(read, named, report)
    for batch_id in desk.database.transact(batches.due):
        _look(desk, batch_id, report)
    return report


def _read(read: Read, batch: Record, report: Report) -> None:
    try:
        read(batch)
    except MusterError as error:  # the database or the storage is away: when the claim is over, somebody tries again
        said = {"action": "unread", "batch": batch.id}
        log.warning("the lines of batch %s were not read: %s", batch.id, error.message, extra=said)
    else:
        report.note("read", batch.id)


def _look(desk: Desk, batch_id: str, report: Report) -> None:
    """Once more as long as it ends a whole chunk."""
    while desk.database.transact(lambda tx: _decide(tx, desk, batch_id, report)):
        pass


def _decide(tx: Tx, desk: Desk, batch_id: str, report: Report) -> bool:
    """One transaction; whether to look again at once."""
    row = figures.lock(tx, batch_id)
    if row is None:
        return False
    if _is_off(tx, row):
        log.warning(
            "the tally of batch %s is off: counted anew", batch_id, extra={"action": "recounted", "batch": batch_id}
        )
        figures.recount(tx, batch_id)
        return True
    figures.fold_tally(tx, batch_id)
    match decide(figures.view(row)):
        case End() as end:
            return batches.end(tx, batch_id, end.ending, end.reason, end.why)
        case Pause(why=why):
            batches.pause(tx, batch_id, BatchReason.MAX_FAILED, why)
            report.note("paused", batch_id)
        case Close(state=state):
            batches.close(tx, batch_id, state, figures.counts(row))
            report.note(state, batch_id)
        case None if row.state == BatchState.FINALIZING:
            return _end_items(tx, desk, row)
        case None:
            batches.wind(tx, batch_id, LOOK)
    return False


def _is_off(tx: Tx, row: Record) -> bool:
    """Whether the tally knows of items that wait and there are none, nor on gangs: it would never be over."""
    counts = figures.counts(row)
    return not counts.leased and counts.queued != 0 and not items.any_waiting(tx, row.id)


def _end_items(tx: Tx, desk: Desk, row: Record) -> bool:
    """What waits ends here; after a cancel, what runs is asked to."""
    if row.ending == BatchState.CANCELED:
        asked = items.ask_leased(tx, row.id)
        desk.wake(gangs=[one.gang_id for one in asked], requests=[one.id for one in asked])
    move, code, why = _end_of(row)
    error = None if move == "cancel" else json.dumps({"code": code, "message": why, "retryable": move == "fail"})
    ended = items.end_queued(tx, row, move, code=code, why=why, error=error, limit=CHUNK)
    batches.wind(tx, row.id, LOOK)
    return bool(ended)


def _end_of(row: Record) -> tuple[str, Reason | None, str]:
    """The move of items that never start, its reason and a sentence."""
    match row.ending, row.reason_code:
        case BatchState.EXPIRED, _:
            return "expire", Reason.DEADLINE, "did not start before the deadline of its batch"
        case BatchState.FAILED, BatchReason.NO_GANG:
            return "fail", Reason.LAUNCH_FAILED, str(row.reason)
        case BatchState.FAILED, BatchReason.NAMESPACE_GONE:
            return "fail", Reason.NAMESPACE_GONE, str(row.reason)
        case _:
            return "cancel", None, f"its batch ended: {row.reason or row.ending}"
