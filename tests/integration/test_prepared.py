"""Statements that are planned once per connection mean what they meant as text."""

from __future__ import annotations

import importlib
import pkgutil
import re
import threading
from collections.abc import Iterator

import pytest
from races import together
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from orchestrator import store
from orchestrator.store.database import Database, Tx
from orchestrator.store.prepared import Prepared, prepared

SECONDS = re.compile(r"(_s|seconds|fresh|pause|priority)$")


def _statements() -> Iterator[tuple[str, Prepared]]:
    """Every prepared statement of the package, by name."""
    for module in pkgutil.iter_modules(store.__path__):
        found = vars(importlib.import_module(f"{store.__name__}.{module.name}"))
        for name, value in found.items():
            for key, each in value.items() if isinstance(value, dict) else [("", value)]:
                if isinstance(each, Prepared):
                    yield f"{module.name}.{name}{key}", each


@pytest.mark.parametrize(("name", "statement"), list(_statements()))
def test_postgres_finds_a_type_for_every_parameter_and_rounds_no_duration(
    shared_database: Database, name: str, statement: Prepared
) -> None:
    def types(tx: Tx) -> list[tuple[str, str]]:
        plan = statement.plan
        tx.exec_driver_sql(plan.prepare)
        query = text("SELECT unnest(parameter_types)::text FROM pg_prepared_statements WHERE name = :n")
        return list(zip(plan.names, tx.execute(query, {"n": plan.name}).scalars(), strict=True))

    for parameter, kind in shared_database.transact(types):
        if SECONDS.search(parameter) and parameter != "run_s":
            assert kind in ("double precision", "smallint"), f"{parameter} of {name} is {kind}"


def test_a_table_that_changes_under_a_plan_costs_one_more_try_and_no_error(database: Database) -> None:
    statement = prepared("SELECT * FROM tenant WHERE id = :id")

    def columns(tx: Tx) -> list[str]:
        return list(tx.execute(statement, {"id": "default"}).keys())

    before = database.transact(columns)
    database.transact(lambda tx: tx.execute(text("ALTER TABLE tenant ADD COLUMN added int")))
    assert database.transact(columns) == [*before, "added"]


def test_percent_signs_and_repeated_parameters_survive(database: Database) -> None:
    statement = prepared("SELECT CAST(:a AS int) % 7 AS rest, :b LIKE '1%' AS like, CAST(:a AS text) AS again")
    row = database.transact(lambda tx: tx.execute(statement, {"a": 10, "b": "12"}).one())
    assert (row.rest, row.like, row.again) == (3, True, "10")


def test_a_statement_is_prepared_once_per_connection_and_fails_as_sqlalchemy_has_it(database: Database) -> None:
    statement = prepared("INSERT INTO tenant (id, weight) VALUES (:id, CAST(:weight AS float4)) RETURNING id")

    def insert(tx: Tx, weight: float) -> str:
        return str(tx.execute(statement, {"id": "another", "weight": weight}).scalar_one())

    with database._engine.connect() as tx:
        with pytest.raises(IntegrityError):
            insert(tx, -1.0)
        tx.rollback()
        assert insert(tx, 1.0) == "another"
        tx.rollback()
        assert insert(tx, 1.0) == "another"
        query = text("SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE name = :n")
        assert tx.execute(query, {"n": statement.plan.name}).scalar_one() == 3


def test_what_a_statement_wrote_is_committed_with_its_transaction(database: Database) -> None:
    statement = prepared("INSERT INTO tenant (id) VALUES (:id) RETURNING id")
    database.transact(lambda tx: tx.execute(statement, {"id": "first"}).one())
    database.single(lambda tx: tx.execute(statement, {"id": "second"}).one())
    with pytest.raises(ZeroDivisionError):
        database.transact(lambda tx: tx.execute(statement, {"id": "third"}).one() and 1 / 0)
    kept = database.look(lambda tx: tx.execute(text("SELECT id FROM tenant ORDER BY id")).scalars().all())
    assert list(kept) == ["default", "first", "second"]


def test_after_the_server_broke_all_connections_the_next_try_has_a_new_one(database: Database) -> None:
    mine = Database(database.url, connections=4)
    statement = prepared("SELECT pg_backend_pid() AS pid WHERE :one = 1")
    all_there = threading.Barrier(4)

    def work(tx: Tx) -> int:
        all_there.wait(timeout=30)  # each on a connection of its own
        return int(tx.execute(statement, {"one": 1}).scalar_one())

    pids = together([lambda: mine.transact(work)] * 4)
    assert len(set(pids)) == 4
    database.transact(lambda tx: tx.execute(text("SELECT pg_terminate_backend(p) FROM unnest(:p) p"), {"p": pids}))
    assert mine.transact(lambda tx: tx.execute(statement, {"one": 1}).scalar_one()) not in pids
    mine.close()
