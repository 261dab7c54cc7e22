"""Looks at open batches: ends items that are not to start, stops those that fail too often, says when all are over."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.domain.batches import Close, End, Pause, decide
from orchestrator.domain.states import BatchReason, BatchState, Reason
from orchestrator.loops.desk import Desk, Report
from orchestrator.store import batch_figures as figures
from orchestrator.store import batches, items
from orchestrator.store.database import Record, Tx

log = logging.getLogger("muster.batches")

LOOK = timedelta(seconds=1)
"""Between two looks at a batch to which nothing happens."""
CHUNK = 2000
"""Items that one transaction ends."""


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What one transaction did. `again`: there is more to do at once."""

    again: bool = False
    did: str | None = None
    asked: Sequence[Record] = ()
    """Items whose gangs are to stop them."""


def run_once(desk: Desk) -> Report:
    """In rounds, as long as one of them ended a whole chunk of items: a large batch holds up no other one."""
    report = Report()
    again = True
    while again:
        looks = [_looked(desk, batch_id, report) for batch_id in desk.database.transact(batches.due)]
        again = any(looks)
    return report


def _looked(desk: Desk, batch_id: str, report: Report) -> bool:
    """Whether to look again at once."""
    look = desk.database.transact(lambda tx: _decide(tx, batch_id))
    desk.wake(gangs=[one.gang_id for one in look.asked], requests=[one.id for one in look.asked])
    if look.did is not None:
        report.note(look.did, batch_id)
    return look.again


def _decide(tx: Tx, batch_id: str) -> _Look:
    row = figures.lock(tx, batch_id)
    if row is None:
        return _Look()
    if figures.is_off(tx, batch_id):
        said = {"action": "recounted", "batch": batch_id}
        log.warning("the tally of batch %s is off: counted anew", batch_id, extra=said)
        figures.recount(tx, batch_id)
        batches.wind(tx, batch_id, LOOK)
        return _Look()
    figures.fold_tally(tx, batch_id)
    match decide(figures.view(row)):
        case End() as end:
            return _Look(again=batches.end(tx, batch_id, end.ending, end.reason, end.why))
        case Pause(why=why):
            batches.pause(tx, batch_id, BatchReason.MAX_FAILED, why)
            return _Look(did="paused")
        case Close(state=state):
            batches.close(tx, batch_id, state, figures.counts(row))
            return _Look(did=state)
        case None if row.state == BatchState.FINALIZING:
            return _end_items(tx, row)
        case None:
            batches.wind(tx, batch_id, LOOK)
            return _Look()


def _end_items(tx: Tx, row: Record) -> _Look:
    """What waits ends here; after a cancel, what runs is asked to."""
    asked = items.ask_leased(tx, row.id) if row.ending == BatchState.CANCELED else ()
    move, code, why = _end_of(row)
    error = None if move == "cancel" else json.dumps({"code": code, "message": why, "retryable": move == "fail"})
    ended = items.end_queued(tx, row, move, code=code, why=why, error=error, limit=CHUNK)
    if not ended:
        batches.wind(tx, row.id, LOOK)
    return _Look(again=bool(ended), asked=asked)


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
