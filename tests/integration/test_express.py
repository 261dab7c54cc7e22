"""Few statements for many, but the same story: nobody can tell what went together from what went alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import builders as make
import pytest
from builders import LEASE
from races import together
from sqlalchemy import text

from orchestrator.domain.placement import Mode
from orchestrator.domain.states import Outcome
from orchestrator.errors import Conflict, Unavailable
from orchestrator.store import accepting, claims, express, invariants
from orchestrator.store.accepting import Acceptor
from orchestrator.store.attempts import Finish
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.express import Report
from orchestrator.store.finishing import Ending, Finisher
from orchestrator.store.orders import Accepted, Order
from orchestrator.store.tokens import digest


def order(pool: Record, **changes: Any) -> Order:
    return Order(new=make.new_request(pool, **({"placed": None} | changes)), pool=pool)


def accepted(answers: list[Accepted | Exception]) -> list[Accepted]:
    assert all(isinstance(answer, Accepted) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Accepted)]


def success(gang: make.Gang, lease: Any, **changes: Any) -> Report:
    values = {"token": lease.token, "outcome": Outcome.SUCCEEDED, "digest": b"1", "run_s": 0.1, **changes}
    return Report(attempt=lease.attempt, session_hash=digest(gang.session), finish=Finish(**values))


@pytest.fixture
def pool(database: Database) -> Record:
    return database.transact(lambda tx: make.pool(tx, pool={"max": 4}))


@pytest.fixture
def acceptor(database: Database) -> Acceptor:
    return Acceptor(database, LEASE)


def check(database: Database) -> None:
    assert database.look(invariants.check) == []


def ready(database: Database, pool: Record, count: int) -> dict[str, make.Gang]:
    gangs = database.transact(lambda tx: [make.ready(tx, pool) for _ in range(count)])
    return {gang.id: gang for gang in gangs}


def test_a_request_that_a_free_gang_takes_at_once_is_recorded_before_it_is_assigned(tx: Tx) -> None:
    pool = make.pool(tx)
    gang = make.ready(tx, pool)
    new = make.new_request(pool)
    lease = accepting.take(tx, pool, [new], LEASE)[new.id].lease
    assert lease is not None
    row = make.request_row(tx, new.id)
    events = tx.execute(text("SELECT move, at FROM event WHERE subject = :r ORDER BY seq"), {"r": new.id}).all()
    assert [tuple(event) for event in events] == [("record", row.created_at), ("assign", row.assigned_at)]
    assert express.succeed(tx, [success(gang, lease)])[lease.attempt].request == new.id
    assert invariants.check(tx) == []


def test_those_who_come_first_get_the_free_gangs_and_the_others_wait_in_their_order(
    database: Database, pool: Record, acceptor: Acceptor
) -> None:
    gangs = ready(database, pool, 2)
    answers = accepted(acceptor.accept([order(pool) for _ in range(5)]))
    assert [answer.lease is not None for answer in answers] == [True, True, False, False, False]
    assert {answer.lease.gang for answer in answers[:2] if answer.lease} == set(gangs)
    assert [answer.load.queued for answer in answers[2:] if answer.load] == [0, 1, 2]
    states = [answer.row.state for answer in answers if answer.row]
    assert states == ["assigned", "assigned", "queued", "queued", "queued"]
    later = accepted(acceptor.accept([order(pool)]))[0]
    assert later.lease is None and later.load is not None and later.load.queued == 3  # nobody overtakes
    check(database)


def test_a_gang_that_is_idle_is_not_given_to_whom_somebody_is_ahead_of(
    database: Database, pool: Record, acceptor: Acceptor
) -> None:
    database.transact(lambda tx: make.queued(tx, pool))
    ready(database, pool, 1)
    assert accepted(acceptor.accept([order(pool)]))[0].lease is None


def test_one_key_is_one_request_also_within_a_group(database: Database, pool: Record, acceptor: Acceptor) -> None:
    ready(database, pool, 2)
    answers = accepted(acceptor.accept([order(pool, idempotency_key="k") for _ in range(4)]))
    rows = [answer.row for answer in answers if answer.row is not None]
    assert len(rows) == 1
    assert database.look(lambda tx: claims.replayed(tx, "default", "k", b"digest")) == rows[0].id
    check(database)


def test_what_becomes_of_one_order_leaves_the_others_alone(database: Database, acceptor: Acceptor) -> None:
    closed = database.transact(lambda tx: make.pool(tx, pool={"max": 0}))
    opened = database.transact(lambda tx: make.pool(tx))
    broken = order(opened, tenant="nobody\0")
    answers = acceptor.accept([order(closed, mode=Mode.WARM), broken, order(opened), order(closed)])
    assert isinstance(answers[0], Conflict) and answers[0].code == "no_warm_pool"
    assert isinstance(answers[1], Exception)
    kept = accepted([answers[2], answers[3]])
    assert [answer.row.placement for answer in kept if answer.row] == ["warm", "batch"]
    check(database)


def test_two_replicas_that_accept_at_once_give_no_gang_away_twice(
    database: Database, pool: Record, acceptor: Acceptor
) -> None:
    for _ in range(10):
        ready(database, pool, 1)
        works = [lambda: acceptor.accept([order(pool)]) for _ in range(4)]
        for answers in together(works):
            assert isinstance(answers, list)
            accepted(answers)
    check(database)


def test_successes_that_are_reported_together_end_together_and_their_gangs_get_what_is_due(
    database: Database, pool: Record, acceptor: Acceptor
) -> None:
    gangs = ready(database, pool, 3)
    answers = accepted(acceptor.accept([order(pool) for _ in range(5)]))
    leases = [answer.lease for answer in answers if answer.lease]
    file = {"name": "a.txt", "media_type": "text/plain", "bytes": 3, "sha256": "0" * 64, "uri": "file:///a.txt"}
    reports = [success(gangs[lease.gang], lease, value={"n": 1}, outputs=[file]) for lease in leases]
    watched = leases[0].request
    endings = Finisher(database, LEASE).finish([*reports, reports[0]], [watched]).each
    assert [isinstance(ending, Ending) and ending.freed is not None for ending in endings] == [True] * 3 + [False]
    first, second, third, again = (ending for ending in endings if isinstance(ending, Ending))
    assert again.lease is None
    waiting = {answer.row.id for answer in answers[3:] if answer.row}
    assert {ending.lease.request for ending in (first, second, third) if ending.lease} == waiting
    assert first.freed is not None and first.freed.shown is not None and second.freed is not None
    assert first.freed.shown.value == {"n": 1} and first.freed.shown.outputs[0]["name"] == "a.txt"
    assert second.freed.shown is None
    check(database)


@pytest.mark.parametrize("wrong", ["token", "session"])
def test_a_report_that_is_not_the_usual_one_changes_nothing_and_spoils_no_other(
    database: Database, pool: Record, acceptor: Acceptor, wrong: str
) -> None:
    gangs = ready(database, pool, 2)
    leases = [answer.lease for answer in accepted(acceptor.accept([order(pool), order(pool)])) if answer.lease]
    good = success(gangs[leases[1].gang], leases[1])
    bad = success(gangs[leases[0].gang], leases[0], **({"token": "0" * 32} if wrong == "token" else {}))
    if wrong == "session":
        bad = Report(attempt=bad.attempt, session_hash=good.session_hash, finish=bad.finish)
    endings = Finisher(database, LEASE).finish([bad, good], []).each
    assert [isinstance(ending, Ending) and ending.freed is not None for ending in endings] == [False, True]
    assert database.look(lambda tx: make.request_row(tx, leases[0].request)).state == "assigned"
    check(database)


def test_a_report_that_cannot_be_stored_spoils_no_other(database: Database, pool: Record, acceptor: Acceptor) -> None:
    gangs = ready(database, pool, 2)
    leases = [answer.lease for answer in accepted(acceptor.accept([order(pool), order(pool)])) if answer.lease]
    bad = success(gangs[leases[0].gang], leases[0], value={"text": "\0"})
    endings = Finisher(database, LEASE).finish([bad, success(gangs[leases[1].gang], leases[1])], []).each
    assert [isinstance(ending, Ending) and ending.freed is not None for ending in endings] == [False, True]


def test_a_gang_that_did_not_report_is_told_of_its_lease(database: Database, pool: Record, acceptor: Acceptor) -> None:
    gangs = ready(database, pool, 1)
    leases = [answer.lease for answer in accepted(acceptor.accept([order(pool) for _ in range(3)])) if answer.lease]
    (other,) = ready(database, pool, 1)
    endings = Finisher(database, LEASE).finish([success(gangs[leases[0].gang], leases[0])], [])
    assert isinstance(endings.each[0], Ending) and endings.each[0].lease is not None
    assert [lease.gang for lease in endings.others] == [other]


def test_a_single_statement_whose_connection_is_lost_is_not_tried_again(database: Database) -> None:
    tries: list[int] = []

    def work(tx: Tx) -> None:
        tries.append(1)
        tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(Unavailable, match="outcome"):
        database.single(work)
    assert tries == [1]
    assert database.look(lambda tx: tx.execute(text("SELECT 1")).scalar_one()) == 1


def test_a_look_that_is_broken_off_looks_again_and_leaves_no_transaction_behind(database: Database) -> None:
    tries: list[int] = []

    def work(tx: Tx) -> int:
        tries.append(1)
        if len(tries) == 1:
            tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return int(tx.execute(text("SELECT 7")).scalar_one())

    assert database.look(work) == 7 and len(tries) == 2

    def in_transaction(tx: Tx) -> bool:
        now = "SELECT now() = (SELECT now() FROM pg_sleep(0.01))"
        tx.execute(text(now))
        first = tx.execute(text("SELECT now()")).scalar_one()
        return bool(tx.execute(text("SELECT now()")).scalar_one() == first)

    assert database.look(in_transaction) is False and database.transact(in_transaction) is True


def test_gangs_not_seen_for_half_a_lease_get_nothing(database: Database, pool: Record) -> None:
    ready(database, pool, 1)
    database.transact(lambda tx: tx.execute(text("UPDATE gang_beat SET seen_at = seen_at - interval '16 seconds'")))
    assert accepted(Acceptor(database, timedelta(seconds=30)).accept([order(pool)]))[0].lease is None
