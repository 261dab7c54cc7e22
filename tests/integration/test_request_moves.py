"""Every act of the store in every state of a request: the legal ones make their move, all others change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import builders as make
import pytest
from builders import Lease
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from orchestrator.domain.placement import Assignment, Slot
from orchestrator.domain.states import REQUEST_MOVES, TERMINAL, Outcome, Reason, RequestState
from orchestrator.errors import MusterError
from orchestrator.store import accepting, gangs, granting, requests, stranded
from orchestrator.store.database import Database, Record, Tx

KEY = "the-key"


def _queued(tx: Tx, pool: Record) -> Lease:
    request_id = make.queued(tx, pool, idempotency_key=KEY + pool.id)
    return Lease(attempt="att_none", token="none", request=request_id, gang=make.ready(tx, pool))


def _leased(tx: Tx, pool: Record) -> Lease:
    return make.leased(tx, pool, idempotency_key=KEY + pool.id)


def _running(tx: Tx, pool: Record) -> Lease:
    return make.running(tx, pool, idempotency_key=KEY + pool.id)


def _canceling(tx: Tx, pool: Record) -> Lease:
    lease = _running(tx, pool)
    requests.cancel(tx, "default", lease.request)
    return lease


def _succeeded(tx: Tx, pool: Record) -> Lease:
    lease = _running(tx, pool)
    make.finish(tx, lease)
    return lease


def _failed(tx: Tx, pool: Record) -> Lease:
    lease = _running(tx, pool)
    make.finish(tx, lease, Outcome.FAILED)
    return lease


def _canceled(tx: Tx, pool: Record) -> Lease:
    lease = _canceling(tx, pool)
    make.finish(tx, lease, Outcome.CANCELED)
    return lease


def _expired(tx: Tx, pool: Record) -> Lease:
    lease = _queued(tx, pool)
    assert requests.expire(tx, lease.request)
    return lease


REACH: dict[str, Callable[[Tx, Record], Lease]] = {
    "queued": _queued,
    "assigned": _leased,
    "running": _running,
    "canceling": _canceling,
    "succeeded": _succeeded,
    "failed": _failed,
    "canceled": _canceled,
    "expired": _expired,
}


def _record_again(tx: Tx, lease: Lease) -> Any:
    row = make.request_row(tx, lease.request)
    pool = tx.execute(text("SELECT * FROM pool WHERE id = :p"), {"p": row.pool_id}).one()
    return accepting.record(tx, [make.new_request(pool, idempotency_key=KEY + pool.id)])


def _assign(tx: Tx, lease: Lease) -> Any:
    pool_id = make.request_row(tx, lease.request).pool_id
    slot = Slot(gang=lease.gang.id, incarnation=lease.gang.incarnation)
    chosen = Assignment(request=lease.request, tenant="default", slot=slot, vtime=1.0)
    return [row.gang for row in granting.grant(tx, pool_id, [chosen], carry=False)]


def _lose_the_last(tx: Tx, lease: Lease) -> Any:
    tx.execute(text("UPDATE request SET max_attempts = greatest(attempts, 1) WHERE id = :r"), {"r": lease.request})
    return make.lose(tx, lease)


def _fail_queued(tx: Tx, lease: Lease) -> Any:
    return requests.fail_queued(tx, lease.request, Reason.SETUP_FAILED, "no gang starts", cause={})


def _close_pool(tx: Tx, lease: Lease) -> Any:
    row = make.request_row(tx, lease.request)
    if row.state == RequestState.QUEUED:
        gangs.end(tx, lease.gang.id, Reason.STOPPED, "its pool closes")
    pool = tx.execute(
        text("UPDATE pool SET min_gangs = 0, max_gangs = 0 WHERE id = :p RETURNING *"), {"p": row.pool_id}
    ).one()
    return stranded.release(tx, pool)


ACTS: dict[str, tuple[Callable[[Tx, Lease], Any], dict[str, str]]] = {
    "record again": (_record_again, {}),
    "assign": (_assign, {"queued": "assign"}),
    "beat": (make.beat, {"assigned": "start"}),
    "finish succeeded": (
        make.finish,
        {"assigned": "succeed", "running": "succeed", "canceling": "end_cancel"},
    ),
    "finish failed": (
        lambda tx, lease: make.finish(tx, lease, Outcome.FAILED, digest=b"other"),
        {"assigned": "fail", "running": "fail", "canceling": "end_cancel"},
    ),
    "finish canceled": (
        lambda tx, lease: make.finish(tx, lease, Outcome.CANCELED, digest=b"another"),
        {"assigned": "retry", "running": "retry", "canceling": "end_cancel"},
    ),
    "lose": (make.lose, {"assigned": "retry", "running": "retry", "canceling": "end_cancel"}),
    "lose the last attempt": (_lose_the_last, {"assigned": "fail", "running": "fail", "canceling": "end_cancel"}),
    "fail while queued": (_fail_queued, {"queued": "fail"}),
    "close its pool": (_close_pool, {"queued": "place"}),
    "cancel": (
        lambda tx, lease: requests.cancel(tx, "default", lease.request),
        {"queued": "cancel", "assigned": "ask_cancel", "running": "ask_cancel"},
    ),
    "expire": (lambda tx, lease: requests.expire(tx, lease.request), {"queued": "expire"}),
}


def test_the_states_and_acts_of_this_file_are_all_there_are() -> None:
    assert set(REACH) == set(RequestState)
    made = {(move, state) for _, effects in ACTS.values() for state, move in effects.items()}
    assert made == {(name, source) for name, move in REQUEST_MOVES.items() for source in move.sources}


@pytest.mark.parametrize("state", list(RequestState))
@pytest.mark.parametrize("act", list(ACTS))
def test_an_act_makes_its_legal_move_or_changes_nothing(shared_database: Database, act: str, state: str) -> None:
    lease = shared_database.transact(lambda tx: REACH[state](tx, make.pool(tx)))
    before, said = shared_database.transact(lambda tx: _seen(tx, lease.request))
    assert before.state == state
    do, effects = ACTS[act]
    try:
        shared_database.transact(lambda tx: do(tx, lease))
    except MusterError:
        assert state not in effects
    after, heard = shared_database.transact(lambda tx: _seen(tx, lease.request))
    if state not in effects:
        assert (_but_bounds(after), heard) == (_but_bounds(before), said)
        return
    move = REQUEST_MOVES[effects[state]]
    assert state in move.sources and after.state == move.target
    assert after.version == before.version + 1
    assert [e.move for e in heard] == [e.move for e in said] + [move.name]
    assert heard[-1].seq == after.version and heard[-1].data["state"] == after.state
    assert (after.finished_at is not None) == (after.state in TERMINAL)


def _seen(tx: Tx, request_id: str) -> tuple[Record, list[Record]]:
    return make.request_row(tx, request_id), make.events_of(tx, request_id)


def _but_bounds(row: Record) -> dict[str, Any]:
    """All but what `lose the last attempt` sets to get there."""
    return {name: value for name, value in row._mapping.items() if name != "max_attempts"}


@pytest.mark.parametrize("target", list(RequestState))
@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_the_database_itself_lets_no_terminal_state_go(shared_database: Database, state: str, target: str) -> None:
    lease = shared_database.transact(lambda tx: REACH[state](tx, make.pool(tx)))

    def leave(tx: Tx) -> None:
        tx.execute(text("UPDATE request SET state = :s WHERE id = :r"), {"s": target, "r": lease.request})

    if target == state:
        shared_database.transact(leave)
        return
    with pytest.raises(DBAPIError):
        shared_database.transact(leave)
