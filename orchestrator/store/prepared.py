"""Statements that Postgres plans once per connection, not once per call, and that go to it past SQLAlchemy.

The view of a request joins eight tables: planning it takes six times as long as running it (measured 1.36 ms against
0.21 ms). psycopg2 sends text, so PREPARE and EXECUTE are spelled out here. What SQLAlchemy does for a statement of text
(a context, and the names of the result's columns anew each time) costs three to five times the CPU of the statement's
own way through psycopg2, so only its connections, transactions, errors and rows are used.

Plans are generic. Every statement marked so is written for an index, but Postgres would choose a scan of the whole
table while the table is small, and keep to it when a burst makes it large: `PLANNING` forbids that for the session.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn, cast

import psycopg2
from sqlalchemy import Connection, Result, TextClause
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import ResultMetaData, SimpleResultMetaData
from sqlalchemy.exc import DBAPIError

PLANNING = "-c enable_seqscan=off -c jit=off"
"""Options of a session that prepares statements."""

STALE = "0A000"
"""SQLSTATE of `cached plan must not change result type`: a migration changed a table under the plan.

Connections that were opened since have no such plan.
"""

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_PARAMETER = re.compile(r"%\((\w+)\)s|%%")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to send for one statement."""

    name: str
    names: tuple[str, ...]
    """The parameters, in order."""
    prepare: str
    execute: str


def prepared(sql: str) -> Prepared:
    """`sql`, planned once per connection. Each occurrence of a parameter has a type by itself, from where it stands."""
    return Prepared(sql)


class Prepared(TextClause):
    """Executed like any `text`; takes one set of values, answers with rows and never with a count of them."""

    inherit_cache = True

    @cached_property
    def plan(self) -> Plan:
        """From `... :id ...` to `PREPARE name AS ... $1 ...` and `EXECUTE name (%(id)s)`."""
        statement = str(self.compile(dialect=_DIALECT))
        names = [match.group(1) for match in _PARAMETER.finditer(statement) if match.group(1)]
        numbers = iter(range(1, len(names) + 1))
        body = _PARAMETER.sub(lambda match: f"${next(numbers)}" if match.group(1) else "%", statement)
        name = "m_" + hashlib.sha256(statement.encode()).hexdigest()[:16]
        arguments = ", ".join(f"%({each})s" for each in names)
        return Plan(
            name=name,
            names=tuple(names),
            prepare=f"PREPARE {name} AS {body}",
            execute=f"EXECUTE {name} ({arguments})" if names else f"EXECUTE {name}",
        )

    def _execute_on_connection(  # type: ignore[override]
        self, connection: Connection, distilled_params: Sequence[Mapping[str, Any]], execution_options: Any
    ) -> Result[Any]:
        """Where SQLAlchemy hands a statement over to be executed."""
        (values,) = distilled_params or ({},)
        if not connection.in_transaction():
            connection.begin()
        try:
            return self._fetched(connection, values)
        except psycopg2.Error as error:
            _raise(connection, self.plan, values, error)

    def _fetched(self, connection: Connection, values: Mapping[str, Any]) -> Result[Any]:
        checked_out = connection.connection
        known: dict[str, ResultMetaData | None] = checked_out.info.setdefault("prepared", {})
        plan = self.plan
        with contextlib.closing(checked_out.cursor()) as cursor:
            if plan.name not in known:
                cursor.execute(plan.prepare)
                known[plan.name] = None
            cursor.execute(plan.execute, values)
            columns = known[plan.name]
            if columns is None:
                columns = known[plan.name] = SimpleResultMetaData([each[0] for each in cursor.description or ()])
            return IteratorResult(columns, iter(cursor.fetchall() if cursor.description else ()))


def _raise(connection: Connection, plan: Plan, values: Mapping[str, Any], error: psycopg2.Error) -> NoReturn:
    """As SQLAlchemy would; a connection that is lost it notices itself, and throws away all that are as old."""
    if connection.dialect.is_disconnect(cast(Any, error), connection.connection.dbapi_connection, None):
        connection.exec_driver_sql(plan.execute, values)
    raise DBAPIError.instance(
        plan.execute, values, error, psycopg2.Error, connection.engine.hide_parameters, dialect=connection.dialect
    ) from error
