"""What loops and pages ask must not read more the longer the history is: plans, over a database with some of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import builders as make
import pytest
from sqlalchemy import Connection, text

from orchestrator.store import (
    batch_figures,
    batch_retention,
    batches,
    fires,
    gangs,
    items,
    leftovers,
    outputs,
    planning,
    pools,
    purging,
    requests,
    schedules,
    scheduling,
)
from orchestrator.store.database import Database, Tx

HISTORY = 3000
MOST = 300
"""Rows that a statement may touch of a history of so many: a fixed part, whatever grows."""

_FILL = f"""
INSERT INTO request (id, tenant, template, template_version, pool_id, mode, placement, placement_reason, due_at, state,
                     attempts, max_attempts, max_crashes, body_digest, timeout_s, assigned_at, finished_at,
                     next_check_at, version, batch_id, line, custom_id)
SELECT CASE WHEN n % 2 = 0 THEN 'req_over' ELSE 'req_wait' END || n, 'default', 't', 1, :p, 'batch', 'batch', '', now(),
       CASE WHEN n % 2 = 0 THEN 'succeeded' ELSE 'queued' END, 1 - n % 2, 5, 3, '', 60, now(),
       CASE WHEN n % 2 = 0 THEN now() - interval '1 day' END, CASE WHEN n % 2 = 1 THEN now() + interval '100 years' END,
       1, CASE WHEN n % 2 = 0 THEN :over ELSE :open END, n, 'i-' || n
FROM generate_series(1, {2 * HISTORY}) n;
INSERT INTO attempt (id, request_id, number, gang_id, incarnation, token, granted_at, ended_at, outcome)
SELECT 'att_' || id, id, 1, :g, 1, '', now(), now(), 'succeeded' FROM request WHERE state = 'succeeded';
INSERT INTO payload (request_id, input) SELECT id, '{{}}' FROM request;
INSERT INTO schedule (id, tenant, name, minted_until, next_check_at, created_at, updated_at)
VALUES ('sch_1', 'default', 's', now(), now(), now(), now());
INSERT INTO schedule_version (schedule_id, version, policy, runs, since)
VALUES ('sch_1', 1, '{{"cron": "* * * * *"}}', '{{}}', now());
INSERT INTO schedule_fire (schedule_id, tick, version, due_at, state, reason_code, decided_at)
SELECT 'sch_1', now() - n * interval '1 minute', 1, now(), 'skipped', 'overlap', now()
FROM generate_series(1, {HISTORY}) n;
INSERT INTO purged (id, tenant) SELECT 'req_gone' || n, 'default' FROM generate_series(1, {HISTORY}) n;
INSERT INTO batch (id, tenant, template, template_version, pool_id, state, outcome, strict, max_parallel, shared,
                   on_max_failed, priority, body_digest, due_at, finished_at)
SELECT 'bat_old' || n, 'default', 't', 1, :p, 'completed', 'all_succeeded', true, 1, false, 'stop', 0, '', now(), now()
FROM generate_series(1, {HISTORY}) n;
INSERT INTO gang (id, name, tenant, pool_id, template, version_of, mode, backend, state, world, nodes, gone_at,
                  first_ready_at)
SELECT 'gng_old' || n, 'old' || n, 'default', :p, 't', 1, 'serve', 'test', 'gone', 1, 1, now(), now()
FROM generate_series(1, {HISTORY}) n;
"""


class House:
    """A history, and the things that statements are about."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.pool, self.gang, self.open, self.over = database.transact(self._begin)

    def _begin(self, tx: Tx) -> tuple[Any, str, str, str]:
        pool = make.pool(tx, batch={"max_gangs": 4})
        gang = make.ready(tx, pool).id
        both = [make.batch(tx, pool, 0) for _ in range(2)]
        for statement in _FILL.split(";\n"):
            if statement.strip():
                tx.execute(text(statement), {"p": pool.id, "g": gang, "open": both[0], "over": both[1]})
        for one in both:
            tx.execute(text("UPDATE batch SET items = :n WHERE id = :b"), {"n": HISTORY, "b": one})
        tx.execute(text("ANALYZE"))
        return pool, gang, both[0], both[1]


@pytest.fixture(scope="module")
def house(server: Any, migrated: str) -> Iterator[House]:
    """In a database that nobody holds to the promises: most of its rows came about by no move."""
    name = f"test_{uuid4().hex[:16]}"
    database = Database(server.create(name, migrated), connections=2)
    try:
        yield House(database)
    finally:
        database.close()
        server.drop(name)


ASKED: dict[str, Callable[[Tx, House], Any]] = {
    "clocks of requests": lambda tx, house: requests.overdue(tx),
    "clocks of batches": lambda tx, house: batches.due(tx),
    "clocks of schedules": lambda tx, house: schedules.due(tx, schedules.now(tx)),
    "the waiting tick": lambda tx, house: fires.oldest_due(tx, "sch_1", schedules.now(tx)),
    "a tick's next moment": lambda tx, house: fires.next_due(tx, "sch_1"),
    "open runs": lambda tx, house: fires.open_runs(tx, "sch_1"),
    "ticks that are late": lambda tx, house: fires.skip_misfires(tx, "sch_1", schedules.now(tx)),
    "ticks as shown": lambda tx, house: fires.page(tx, "sch_1", None, 50),
    "pools with work": lambda tx, house: scheduling.pools_with_work(tx),
    "slots of batch gangs": lambda tx, house: scheduling.free_batch_slots(tx),
    "assignment": lambda tx, house: scheduling.assign_pool(tx, house.pool.id, make.LEASE),
    "pools to plan": lambda tx, house: planning.pools_to_plan(tx),
    "the plan's view of a pool": lambda tx, house: planning.view_pool(tx, planning.lock_pool(tx, house.pool.id) or 0),
    "the last start that failed": lambda tx, house: pools.last_failed_start(tx, house.pool.id),
    "gangs without work": lambda tx, house: planning.finished_batch_gangs(tx),
    "whether a tally is off": lambda tx, house: batch_figures.is_off(tx, house.open),
    "one batch": lambda tx, house: batch_figures.get(tx, "default", house.over),
    "batches that are open": lambda tx, house: batches.count_open(tx, "default"),
    "batches by label": lambda tx, house: batch_figures.list_page(
        tx, "default", states=[], before=None, limit=50, labels={"night": "22"}
    ),
    "a list of batches": lambda tx, house: batch_figures.list_page(tx, "default", states=[], before=None, limit=50),
    "paused batches": lambda tx, house: batch_figures.list_page(
        tx, "default", states=["paused"], before=None, limit=50
    ),
    "items that failed": lambda tx, house: items.page(tx, house.over, states=["failed"], after=0, limit=50),
    "errors of a batch": lambda tx, house: items.errors(tx, house.over, after=0, limit=50),
    "an item by name": lambda tx, house: items.current(tx, house.over, "i-10"),
    "batches to forget": lambda tx, house: batch_retention.remove_one(tx, timedelta(days=90)),
    "a small batch, deleted": lambda tx, house: batch_retention.purge(tx, "default", "bat_old7"),
    "checkpoints left behind": lambda tx, house: leftovers.of_requests(tx, timedelta(hours=1)),
    "marks to forget": lambda tx, house: purging.forget(tx),
    "purged files": lambda tx, house: purging.removable(tx, "file:///x"),
    "expired outputs": lambda tx, house: outputs.expire(tx),
    "gangs to launch": lambda tx, house: gangs.overdue(tx),
}


@pytest.mark.parametrize("name", list(ASKED))
def test_no_more_is_read_the_longer_the_history_is(house: House, name: str) -> None:
    read: dict[str, int] = {}
    with house.database._engine.connect() as tx:
        tx.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
        with _explained(tx, read):
            ASKED[name](tx, house)
        tx.rollback()
    assert read and {sql: rows for sql, rows in read.items() if rows > MOST} == {}


class _explained:
    """Notes how many rows the busiest part of each statement's plan touches; the statements run as well."""

    def __init__(self, tx: Connection, read: dict[str, int]) -> None:
        self.tx, self.read = tx, read

    def __enter__(self) -> None:
        raw = self.tx.connection.dbapi_connection
        assert raw is not None
        self.cursor = type(raw.cursor())
        note = self._note

        class Telling(self.cursor):  # type: ignore[misc, name-defined]
            def execute(self, query: Any, values: Any = None) -> None:
                note(self, query, values)
                super().execute(query, values)

        raw.cursor_factory = Telling

    def __exit__(self, *_: object) -> None:
        self.tx.connection.dbapi_connection.cursor_factory = self.cursor  # type: ignore[union-attr]

    def _note(self, cursor: Any, query: Any, values: Any) -> None:
        asked = cursor.mogrify(query, values).decode()
        if asked.lstrip().startswith(("PREPARE", "SET", "SAVEPOINT", "ROLLBACK", "RELEASE")):
            return
        plain = super(type(cursor), cursor).execute
        plain("SAVEPOINT explained")
        plain(f"EXPLAIN (ANALYZE, FORMAT JSON) {asked}")
        said = cursor.fetchone()[0]
        plain("ROLLBACK TO SAVEPOINT explained")
        self.read[" ".join(asked.split())[:300]] = _busiest(said[0]["Plan"])


def _busiest(node: dict[str, Any]) -> int:
    """Rows that one part of a plan read, with those that it threw away."""
    thrown = sum(rows for what, rows in node.items() if what.startswith("Rows Removed"))
    own = round((node["Actual Rows"] + thrown) * node["Actual Loops"])
    return max([own, *(_busiest(part) for part in node.get("Plans", ()))])
