"""Statements that are planned once per connection mean what they meant as text."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import TextClause, text

from orchestrator import store
from orchestrator.store import prepared
from orchestrator.store.database import Database, Tx

SECONDS = re.compile(r"(_s|seconds|fresh|pause|priority)$")


def _statements() -> Iterator[tuple[str, TextClause]]:
    """Every prepared statement of the package, by name."""
    for module in pkgutil.iter_modules(store.__path__):
        found = vars(importlib.import_module(f"{store.__name__}.{module.name}"))
        for name, value in found.items():
            for key, each in value.items() if isinstance(value, dict) else [("", value)]:
                if isinstance(each, TextClause) and each.get_execution_options().get("prepared"):
                    yield f"{module.name}.{name}{key}", each


@pytest.mark.parametrize(("name", "statement"), list(_statements()))
def test_postgres_finds_a_type_for_every_parameter_and_rounds_no_duration(
    shared_database: Database, name: str, statement: TextClause
) -> None:
    def types(tx: Tx) -> list[tuple[str, str]]:
        plan = prepared.plan_of(str(statement.compile(tx.engine)))
        tx.exec_driver_sql(plan.prepare)
        query = text("SELECT unnest(parameter_types)::text FROM pg_prepared_statements WHERE name = :n")
        return list(zip(plan.names, tx.execute(query, {"n": plan.name}).scalars(), strict=True))

    for parameter, kind in shared_database.transact(types):
        if SECONDS.search(parameter) and parameter != "run_s":
            assert kind in ("double precision", "smallint"), f"{parameter} of {name} is {kind}"


def test_a_table_that_changes_under_a_plan_costs_one_more_try_and_no_error(database: Database) -> None:
    statement = prepared.prepared("SELECT * FROM tenant WHERE id = :id")

    def columns(tx: Tx) -> list[str]:
        return list(tx.execute(statement, {"id": "default"}).one()._mapping)

    before = database.transact(columns)
    database.transact(lambda tx: tx.execute(text("ALTER TABLE tenant ADD COLUMN added int")))
    assert database.transact(columns) == [*before, "added"]


def test_percent_signs_and_repeated_parameters_survive(database: Database) -> None:
    statement = prepared.prepared("SELECT CAST(:a AS int) % 7 AS rest, :b LIKE '1%' AS like, CAST(:a AS text) AS again")
    row = database.transact(lambda tx: tx.execute(statement, {"a": 10, "b": "12"}).one())
    assert (row.rest, row.like, row.again) == (3, True, "10")
