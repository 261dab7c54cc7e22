"""Every act of the store in every state of a batch: the legal ones make their move, all others change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import builders as make
import pytest

from orchestrator.domain.batches import Counts
from orchestrator.domain.states import BATCH_MOVES, BATCH_OVER, BatchReason, BatchState
from orchestrator.errors import MusterError
from orchestrator.store import batch_figures, batches, items
from orchestrator.store.database import Database, Record, Tx

ALL_CANCELED = Counts(items=3, leased=0, succeeded=0, failed=0, canceled=3, expired=0)


def _queued(tx: Tx, pool: Record) -> str:
    return make.batch(tx, pool)


def _running(tx: Tx, pool: Record) -> str:
    batch_id = _queued(tx, pool)
    assert batches.start(tx, batch_id)
    return batch_id


def _paused(tx: Tx, pool: Record) -> str:
    batch_id = _running(tx, pool)
    assert batches.pause(tx, batch_id, BatchReason.ASKED, "somebody asked")
    return batch_id


def _finalizing(tx: Tx, pool: Record, ending: BatchState = BatchState.CANCELED) -> str:
    batch_id = _running(tx, pool)
    assert batches.end(tx, batch_id, ending, BatchReason.ASKED, "somebody asked")
    assert items.end_queued(
        tx, make.batch_row(tx, batch_id), "cancel", code=None, why="its batch ended", error=None, limit=10
    )
    return batch_id


def _over(ending: BatchState) -> Callable[[Tx, Record], str]:
    def reach(tx: Tx, pool: Record) -> str:
        batch_id = _finalizing(tx, pool, ending)
        assert batches.close(tx, batch_id, ending, ALL_CANCELED)
        return batch_id

    return reach


REACH: dict[str, Callable[[Tx, Record], str]] = {
    "validating": make.validating,
    "queued": _queued,
    "running": _running,
    "paused": _paused,
    "finalizing": _finalizing,
    **{ending: _over(ending) for ending in BATCH_OVER},
}


def _close(state: BatchState) -> Callable[[Tx, str], Any]:
    def act(tx: Tx, batch_id: str) -> Any:
        row = make.batch_row(tx, batch_id)
        if row.state == "finalizing":  # each end has its move, and only the one that was decided is open
            tx.execute(make.text("UPDATE batch SET ending = :s WHERE id = :b"), {"s": state, "b": batch_id})
        return batches.close(tx, batch_id, state, ALL_CANCELED)

    return act


def _stop(tx: Tx, batch_id: str) -> Any:
    """Of a batch that expires; elsewhere it would be the end that it is not."""
    if make.batch_row(tx, batch_id).state != "finalizing":
        return None
    tx.execute(make.text("UPDATE batch SET ending = 'expired' WHERE id = :b"), {"b": batch_id})
    return batches.cancel(tx, batch_id, "somebody asked")


def _accept(tx: Tx, batch_id: str) -> Any:
    if make.batch_row(tx, batch_id).state == "validating":
        make.record_items(tx, batch_id, 3)
    return batches.accept(tx, batch_id, 3)


def _repeat(tx: Tx, batch_id: str) -> Any:
    row = batch_figures.lock_own(tx, "default", batch_id)
    if batches.reopen(tx, batch_id, int(row.failed)):
        assert items.repeat(tx, row) == 3


ACTS: dict[str, tuple[Callable[[Tx, str], Any], dict[str, str]]] = {
    "accept": (_accept, {"validating": "accept"}),
    "refuse": (lambda tx, b: batches.refuse(tx, b, BatchReason.REFUSED, "line 1 is none"), {"validating": "refuse"}),
    "start": (batches.start, {"queued": "start"}),
    "pause": (
        lambda tx, b: batches.pause(tx, b, BatchReason.ASKED, "somebody asked"),
        {"queued": "pause", "running": "pause"},
    ),
    "resume": (lambda tx, b: batches.resume(tx, b, 0), {"paused": "resume"}),
    "end": (
        lambda tx, b: batches.end(tx, b, BatchState.CANCELED, BatchReason.ASKED, "somebody asked"),
        dict.fromkeys(("validating", "queued", "running", "paused"), "end"),
    ),
    "stop what runs": (_stop, {"finalizing": "halt"}),
    "close as completed": (_close(BatchState.COMPLETED), {"finalizing": "complete"}),
    "close as canceled": (_close(BatchState.CANCELED), {"finalizing": "cancel"}),
    "close as expired": (_close(BatchState.EXPIRED), {"finalizing": "expire"}),
    "close as failed": (_close(BatchState.FAILED), {"finalizing": "fail"}),
    "run again what did not succeed": (_repeat, dict.fromkeys(BATCH_OVER, "reopen")),
}


def test_the_states_and_acts_of_this_file_are_all_there_are() -> None:
    assert set(REACH) == set(BatchState)
    made = {(move, state) for _, effects in ACTS.values() for state, move in effects.items()}
    assert made == {(name, source) for name, move in BATCH_MOVES.items() for source in move.sources}


@pytest.mark.parametrize("state", list(BatchState))
@pytest.mark.parametrize("act", list(ACTS))
def test_an_act_makes_its_legal_move_or_changes_nothing(shared_database: Database, act: str, state: str) -> None:
    batch_id = shared_database.transact(lambda tx: REACH[state](tx, make.pool(tx)))
    before, said = shared_database.transact(lambda tx: _seen(tx, batch_id))
    assert before.state == state
    do, effects = ACTS[act]
    try:
        shared_database.transact(lambda tx: do(tx, batch_id))
    except MusterError:
        assert state not in effects
    after, heard = shared_database.transact(lambda tx: _seen(tx, batch_id))
    if state not in effects:
        assert (after, heard) == (before, said)
        return
    move = BATCH_MOVES[effects[state]]
    assert state in move.sources and after.state == move.target
    assert after.version == before.version + 1
    assert [e.move for e in heard] == [e.move for e in said] + [move.name]
    assert heard[-1].seq == after.version and heard[-1].data["state"] == after.state
    assert (after.finished_at is not None) == (after.outcome is not None) == (after.state in BATCH_OVER)


def _seen(tx: Tx, batch_id: str) -> tuple[Record, list[Record]]:
    return make.batch_row(tx, batch_id), make.events_of(tx, batch_id)


@pytest.mark.parametrize("ending", sorted(BATCH_OVER))
def test_a_batch_ends_only_as_it_was_decided(shared_database: Database, ending: str) -> None:
    def work(tx: Tx) -> list[bool]:
        batch_id = _finalizing(tx, make.pool(tx), BatchState(ending))
        return [batches.close(tx, batch_id, other, ALL_CANCELED) for other in sorted(BATCH_OVER) if other != ending]

    assert shared_database.transact(work) == [False, False, False]
