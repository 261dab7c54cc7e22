"""The database goes away, a replica stalls, an answer is lost: in a tick, while a batch is stored, at an item's end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builders as make
import pytest
from races import behind, eventually
from replica import replica
from scheduled import House, moment
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from orchestrator.domain.states import Outcome
from orchestrator.errors import Unavailable
from orchestrator.loops import ticks
from orchestrator.store import attempts, items
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.fires import Started

_CUT = text("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.fixture
def house(database: Database, tmp_path: Path) -> Iterator[House]:
    built = House(database, tmp_path)
    yield built
    built.retire()


def test_a_tick_whose_connection_is_cut_after_its_run_was_recorded_runs_once(house: House) -> None:
    """F23: what was not committed is not there, and is done again."""
    nightly = house.make()
    house.now = moment("21T02:00")
    tried: list[str | None] = []

    def start(tx: Tx, schedule: Record, fire: Record) -> Started:
        started = house.start(tx, schedule, fire)
        tried.append(started.request)
        if len(tried) == 1:
            tx.execute(_CUT)
        return started

    ticks.run_once(house.desk, start, house.clock)
    (fire,) = house.fires(nightly)
    assert len(tried) == 2 and fire.request_id == tried[1]
    assert house.database.transact(lambda tx: make.count(tx, "SELECT count(*) FROM request")) == 1


def test_a_replica_that_stalls_in_a_tick_loses_it_to_another_one(house: House, tmp_path: Path) -> None:
    """F19: Postgres ends a transaction that does nothing; the late commit fails, and the tick ran once."""
    nightly = house.make()
    house.now = moment("21T02:00")
    idle = """SELECT count(*) = 0 FROM pg_stat_activity
              WHERE state = 'idle in transaction' AND datname = current_database()"""
    with house.database._engine.connect() as stalled:
        stalled.execute(text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
        ticks._look(stalled, nightly, house.start, house.clock)
        eventually(lambda: house.database.look(lambda tx: tx.execute(text(idle)).scalar_one()))
        House(house.database, tmp_path, template=house.template).at(moment("21T02:00"))
        with pytest.raises(DBAPIError):
            stalled.commit()
        stalled.invalidate()
    assert house.told(nightly) == [("21T02:00", "ran")]
    assert house.database.transact(lambda tx: make.count(tx, "SELECT count(*) FROM request")) == 1


def test_a_batch_whose_connection_is_cut_while_it_is_stored_is_stored_whole_and_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F23: its lines are read again from where they were kept."""
    record, cuts = items.record, []

    def cut_once(tx: Tx, *args: Any, **more: Any) -> int:
        done = record(tx, *args, **more)
        if not cuts:
            cuts.append(done)
            tx.execute(_CUT)
        return done

    monkeypatch.setattr(items, "record", cut_once)
    with replica(database, tmp_path) as here:
        client = here.caller()
        assert client.put("/v1/templates/t", json={"handler": "samples.echo:Echo"}).status_code == 200
        answer = client.post(
            "/v1/batches?template=t", content=b'{"input": {}}\n' * 3, headers={"content-type": "application/jsonl"}
        )
    assert cuts == [3] and answer.status_code == 202 and answer.json()["counts"]["total"] == 3
    found = "SELECT (SELECT count(*) FROM batch) * 100 + (SELECT count(*) FROM request)"
    assert database.transact(lambda tx: make.count(tx, found)) == 103


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED])
def test_an_item_that_is_reported_twice_at_once_is_counted_once(database: Database, outcome: Outcome) -> None:
    """F64, F65: the answer to the first report was lost; the second waits for it, and is the same to its gang."""

    def begin(tx: Tx) -> tuple[str, make.Lease]:
        of = make.pool(tx, batch={"max_gangs": 1})
        batch_id = make.batch(tx, of, 2)
        lease = make.pull(tx, make.ready(tx, of, batch_id=batch_id))
        assert lease is not None
        return batch_id, lease

    batch_id, lease = database.transact(begin)

    def report(tx: Tx) -> attempts.Finished:
        return make.finish(tx, lease, outcome)

    with behind(database, report, lambda: database.transact(report)) as second:
        pass
    assert second.result(timeout=20).replayed
    counts = database.transact(lambda tx: make.counts(tx, batch_id))
    assert (counts.over, counts.queued) == (1, 1)


def test_a_commit_of_a_tick_whose_outcome_is_unknown_is_asked_for_and_not_repeated(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database fails over just then: whichever way the commit went, there is one run in the end."""
    nightly = house.make()
    house.now = moment("21T02:00")
    look = ticks._look

    def committed_but_unknown(tx: Tx, *args: Any) -> Any:
        look(tx, *args)
        tx.commit()
        raise Unavailable("the database was lost while committing; ask again to learn the outcome")

    monkeypatch.setattr(ticks, "_look", committed_but_unknown)
    with pytest.raises(Unavailable):
        ticks.run_once(house.desk, house.start, house.clock)
    monkeypatch.setattr(ticks, "_look", look)
    ticks.run_once(house.desk, house.start, house.clock)
    assert house.told(nightly) == [("21T02:00", "ran")]
