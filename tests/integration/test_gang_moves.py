"""Every act of the store in every state of a gang: the legal ones make their move, all others change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import builders as make
import pytest
from builders import START, Gang

from orchestrator.domain.states import GANG_MOVES, GangState, Reason
from orchestrator.errors import MusterError
from orchestrator.store import gangs, incarnations
from orchestrator.store.database import Database, Record, Tx


def _draining(tx: Tx, pool: Record) -> Gang:
    gang = make.ready(tx, pool)
    assert gangs.drain(tx, gang.id, Reason.IDLE, "nothing to do")
    return gang


def _gone(tx: Tx, pool: Record) -> Gang:
    gang = make.ready(tx, pool)
    assert gangs.end(tx, gang.id, Reason.STOPPED, "stopped") is not None
    return gang


REACH: dict[str, Callable[[Tx, Record], Gang]] = {
    "planned": make.planned,
    "launching": make.launching,
    "loading": make.loading,
    "ready": make.ready,
    "draining": _draining,
    "gone": _gone,
}


def _break(tx: Tx, gang: Gang) -> Any:
    return incarnations.break_incarnation(tx, gang.id, Reason.RANK_FAILED, "it broke", START, rank=1, node="n1")


ACTS: dict[str, tuple[Callable[[Tx, Gang], Any], dict[str, str]]] = {
    "launched": (
        lambda tx, gang: gangs.launched(tx, gang.id, START),
        {"planned": "launch", "launching": "launch"},
    ),
    "hello": (make.hello, dict.fromkeys(("planned", "launching", "loading", "ready"), "hello")),
    "last rank ready": (make.all_ranks_ready, {"loading": "ready"}),
    "break": (_break, {"loading": "break", "ready": "break", "draining": "end"}),
    "drain": (
        lambda tx, gang: gangs.drain(tx, gang.id, Reason.IDLE, "nothing to do"),
        dict.fromkeys(("planned", "launching", "loading", "ready"), "drain"),
    ),
    "end": (
        lambda tx, gang: gangs.end(tx, gang.id, Reason.STOPPED, "stopped"),
        dict.fromkeys(("planned", "launching", "loading", "ready", "draining"), "end"),
    ),
}


def test_the_states_and_acts_of_this_file_are_all_there_are() -> None:
    assert set(REACH) == set(GangState)
    made = {(move, state) for _, effects in ACTS.values() for state, move in effects.items()}
    assert made == {(name, source) for name, move in GANG_MOVES.items() for source in move.sources}


@pytest.mark.parametrize("state", list(GangState))
@pytest.mark.parametrize("act", list(ACTS))
def test_an_act_makes_its_legal_move_or_changes_nothing(shared_database: Database, act: str, state: str) -> None:
    gang = shared_database.transact(lambda tx: REACH[state](tx, make.pool(tx)))
    before, said = shared_database.transact(lambda tx: _seen(tx, gang))
    assert before.state == state
    do, effects = ACTS[act]
    try:
        shared_database.transact(lambda tx: do(tx, gang))
    except MusterError:
        assert state not in effects
    after, heard = shared_database.transact(lambda tx: _seen(tx, gang))
    if state not in effects:
        assert (after, heard) == (before, said)
        return
    move = GANG_MOVES[effects[state]]
    assert state in move.sources and after.state == move.target
    assert after.version == before.version + 1
    assert [e.move for e in heard] == [e.move for e in said] + [move.name]
    assert heard[-1].seq == after.version and heard[-1].data["state"] == after.state
    assert (after.gone_at is not None) == (after.state == "gone") == (after.next_check_at is None)


def _seen(tx: Tx, gang: Gang) -> tuple[Record, list[Record]]:
    return make.gang_row(tx, gang), make.events_of(tx, gang.id)


def test_a_gang_is_launched_once_however_often_the_backend_was_asked(shared_database: Database) -> None:
    def work(tx: Tx) -> Record:
        gang = make.launching(tx, make.pool(tx))
        assert gangs.launched(tx, gang.id, START)
        return make.gang_row(tx, gang)

    row = shared_database.transact(work)
    assert row.state == "launching" and row.launches == 2


def test_a_gang_that_said_hello_is_not_launched_again(shared_database: Database) -> None:
    """Its ranks may be faster than the record of the launch."""

    def work(tx: Tx) -> tuple[bool, Record]:
        gang = make.hello(tx, make.planned(tx, make.pool(tx)))
        return gangs.launched(tx, gang.id, START), make.gang_row(tx, gang)

    recorded, row = shared_database.transact(work)
    assert not recorded
    assert row.state == "loading" and row.launched_at is not None
