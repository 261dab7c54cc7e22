"""Wake-ups across replicas, and the one way to run a transaction: what is repeated and what never is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import builders as make
import pytest
from races import eventually, together
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from orchestrator.errors import Unavailable
from orchestrator.store import claims
from orchestrator.store.database import Database, Tx
from orchestrator.store.wakeups import Listener, Notifier


@pytest.fixture
def database(shared_database: Database) -> Database:
    """One for the file: what these tests break, the next connection mends."""
    return shared_database


class Ear:
    """What a listener heard, and how often it had to connect."""

    def __init__(self) -> None:
        self.news = threading.Condition()
        self.heard: list[str] = []
        self.messages = 0
        self.connects = 0

    def hear(self, topics: list[str]) -> None:
        with self.news:
            self.heard += topics
            self.messages += 1
            self.news.notify_all()

    def lose(self) -> None:
        with self.news:
            self.connects += 1
            self.news.notify_all()

    def until(self, true: Callable[[], bool]) -> None:
        with self.news:
            assert self.news.wait_for(true, timeout=20)


@contextmanager
def listening(database: Database) -> Iterator[Ear]:
    ear = Ear()
    listener = Listener(database, heard=ear.hear, lost=ear.lose)
    try:
        ear.until(lambda: ear.connects == 1)
        yield ear
    finally:
        listener.close()


@contextmanager
def notifying(database: Database, gap: timedelta = timedelta(milliseconds=20)) -> Iterator[Notifier]:
    """Of another replica than the one that listens."""
    other = Database(database.url, connections=2)
    notifier = Notifier(other, gap)
    try:
        yield notifier
    finally:
        notifier.close()
        other.close()


def test_every_replica_hears_every_topic(database: Database) -> None:
    third = Database(database.url, connections=1)
    with listening(database) as one, listening(third) as two, notifying(database) as notifier:
        notifier.tell(["g:1", "r:2"])
        for ear in (one, two):
            ear.until(lambda ear=ear: set(ear.heard) == {"g:1", "r:2"})  # type: ignore[misc]


def test_who_comes_later_is_heard_of_within_seconds(database: Database) -> None:
    """A replica that is alone tells nobody, and looks around once a second."""
    with notifying(database) as notifier:
        notifier.tell(["g:nobody"])
        with listening(database) as ear:
            eventually(lambda: (notifier.tell(["g:after"]), "g:after" in ear.heard)[1])


def test_what_is_told_together_is_sent_together_and_nothing_is_lost(database: Database) -> None:
    topics = {f"g:gng_{number:026}" for number in range(1000)}
    with listening(database) as ear, notifying(database, gap=timedelta(milliseconds=200)) as notifier:
        notifier.tell(["g:first"])
        for topic in topics:
            notifier.tell([topic, topic])
        ear.until(lambda: topics <= set(ear.heard))
        assert len(ear.heard) == len(set(ear.heard)) and ear.messages < 20


def test_a_listener_whose_connection_was_cut_connects_again_and_says_so(database: Database) -> None:
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'muster-listen%'"
    kill += " AND datname = current_database()"
    with listening(database) as ear, notifying(database) as notifier:
        assert database.transact(lambda tx: make.count(tx, kill)) == 1
        ear.until(lambda: ear.connects == 2)
        notifier.tell(["g:after"])
        ear.until(lambda: "g:after" in ear.heard)


@pytest.mark.parametrize("payload", ["", "no json", "3", '{"a": 1}', "[1, null]"])
def test_a_message_of_somebody_else_does_not_deafen_the_listener(database: Database, payload: str) -> None:
    with listening(database) as ear, notifying(database) as notifier:
        database.transact(lambda tx: tx.execute(text("SELECT pg_notify('muster', :p)"), {"p": payload}))
        notifier.tell(["g:after"])
        ear.until(lambda: "g:after" in ear.heard)
        assert all(isinstance(topic, str) for topic in ear.heard)


def test_a_notifier_outlives_a_database_that_goes_away(database: Database) -> None:
    with listening(database) as ear, notifying(database) as notifier:
        cut_all(database)
        notifier.tell(["g:lost"])
        eventually(lambda: (notifier.tell(["g:after"]), "g:after" in ear.heard)[1])


# --------------------------------------------------------------------------------------------------------- transact


def cut_all(database: Database) -> None:
    """As an administrator, or a failover, does."""
    with database._engine.connect() as tx:
        tx.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


def test_a_transaction_whose_connection_was_cut_runs_again(database: Database) -> None:
    runs = []

    def work(tx: Tx) -> int:
        pid = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
        runs.append(pid)
        if len(runs) == 1:
            with database._engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:p)"), {"p": pid})
        return make.count(tx, "SELECT 42")

    assert database.transact(work) == 42
    assert len(runs) == 2 and len(set(runs)) == 2


def test_two_transactions_that_lock_each_other_both_succeed(database: Database) -> None:
    rows = database.transact(lambda tx: [make.tenant(tx), make.tenant(tx)])
    both_hold_one = threading.Barrier(2)

    def grab(order: list[str]) -> Callable[[], int]:
        tries: list[int] = []

        def work(tx: Tx) -> int:
            tries.append(1)
            tx.execute(text("SELECT 1 FROM tenant WHERE id = :id FOR UPDATE"), {"id": order[0]})
            if len(tries) == 1:
                both_hold_one.wait(timeout=10)
            tx.execute(text("SELECT 1 FROM tenant WHERE id = :id FOR UPDATE"), {"id": order[1]})
            return len(tries)

        return lambda: database.transact(work)

    assert sorted(map(str, together([grab(rows), grab(rows[::-1])]))) == ["1", "2"]


def test_a_commit_whose_outcome_is_unknown_is_never_repeated(database: Database) -> None:
    """The connection goes while the commit is on its way: the rows may be there."""
    runs = []

    def work(tx: Tx) -> None:
        runs.append(1)
        tx.execute(text("INSERT INTO tenant (id) VALUES (:id)"), {"id": f"t{len(runs)}"})

    def cut(connection: Any) -> None:
        pid = connection.connection.dbapi_connection.info.backend_pid
        with database._engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:p)"), {"p": pid})
            other.rollback()  # a transaction sees pg_stat_activity as it was at its first look
            eventually(lambda: not _backend_lives(other, pid))

    event.listen(database._engine, "commit", cut, once=True)
    with pytest.raises(Unavailable, match="committing"):
        database.transact(work)
    assert len(runs) == 1


def _backend_lives(tx: Tx, pid: int) -> bool:
    found = tx.execute(text("SELECT 1 FROM pg_stat_activity WHERE pid = :p"), {"p": pid}).all()
    tx.rollback()
    return bool(found)


def test_an_error_of_ours_is_neither_hidden_nor_repeated(database: Database) -> None:
    runs = []

    def work(tx: Tx) -> None:
        runs.append(1)
        make.tenant(tx, "rolled-back")
        tx.execute(text("SELECT 1/0"))

    with pytest.raises(DBAPIError):
        database.transact(work)
    assert len(runs) == 1
    query = "SELECT count(*) FROM tenant WHERE id = 'rolled-back'"
    assert database.transact(lambda tx: make.count(tx, query)) == 0


def test_a_database_that_is_not_there_is_unavailable() -> None:
    nowhere = Database("postgresql+psycopg2://muster:x@127.0.0.1:9/muster")
    with pytest.raises(Unavailable):
        nowhere.transact(lambda tx: None)
    nowhere.close()


def test_without_a_free_connection_the_caller_is_told_to_try_again(database: Database) -> None:
    narrow = Database(database.url, connections=1, patience=timedelta(milliseconds=50))
    with narrow._engine.connect(), pytest.raises(Unavailable, match="in use"):
        narrow.transact(lambda tx: None)
    narrow.close()


@pytest.mark.parametrize(
    "limit", ["SET LOCAL statement_timeout = 50", "SET LOCAL idle_in_transaction_session_timeout = 50"]
)
def test_a_statement_that_takes_too_long_is_no_defect_of_the_caller(database: Database, limit: str) -> None:
    """A slow database is to be tried again (503), not a defect (500)."""

    def work(tx: Tx) -> None:
        tx.execute(text(limit))
        if "idle" in limit:
            threading.Event().wait(0.2)
        tx.execute(text("SELECT pg_sleep(0.3)"))

    with pytest.raises(Unavailable):
        database.transact(work)


# ------------------------------------------------------------------------------------------------- slow housekeeping


def test_a_key_is_free_again_after_a_day(tx: Tx) -> None:
    pool = make.pool(tx)
    request_id = make.queued(tx, pool, idempotency_key="k")
    assert claims.forget_idempotency_keys(tx) == 0
    tx.execute(
        text("UPDATE request SET created_at = created_at - interval '25 hours' WHERE id = :r"), {"r": request_id}
    )
    assert claims.forget_idempotency_keys(tx) == 1
    assert claims.replayed(tx, "default", "k", b"digest") is None
