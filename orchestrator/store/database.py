"""The connection to Postgres: a bounded pool, time limits on every statement, and one way to run a transaction.

Nothing here knows what a request is. `transact` is the only place that begins and commits.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import psycopg2
from sqlalchemy import Connection, Row, TextClause, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from orchestrator.domain.moved import Moved
from orchestrator.errors import Unavailable
from orchestrator.store import journal, prepared
from orchestrator.store.journal import Told

T = TypeVar("T")
Tx = Connection
Record = Row[Any]

_OPTIONS = (
    "-c statement_timeout=10000 -c lock_timeout=3000 -c idle_in_transaction_session_timeout=15000 -c timezone=UTC "
    + prepared.PLANNING
)
_KEEPALIVE: dict[str, Any] = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_TRY_AGAIN = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03", prepared.STALE})
_NOT_NOW = ("53", "57014", "58", "25006")
"""Out of memory, disk or connections; too slow; an error of its disk; a standby: nothing that a caller did wrong."""
_TRIES = 3


class Database:
    """One replica's connections to one Postgres database."""

    def __init__(self, url: str, *, connections: int = 16, patience: timedelta = timedelta(seconds=5)) -> None:
        self.url = url
        self.name = f"muster-listen-{secrets.token_hex(4)}"
        """Of this replica's listener, as the other replicas see it."""
        self.tell: Told = _nobody
        """Hears of the moves of each transaction after its commit, on the thread that committed."""
        self.starved: Callable[[], None] = lambda: None
        """Hears that no connection became free in time."""
        self._engine = create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=patience.total_seconds(),
            pool_recycle=1800,
            hide_parameters=True,  # the log of a defect says the statement, not what somebody sent
            connect_args={"connect_timeout": 5, "options": _OPTIONS, "application_name": "muster", **_KEEPALIVE},
        )

    def transact(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in one READ COMMITTED transaction and commit it.

        A transaction that Postgres broke off before its commit (lost connection, deadlock, lock timeout) runs again,
        up to three times: `work` must touch nothing but the database. Raises Unavailable when Postgres cannot be
        reached or cannot do it now, or when the outcome of the commit is unknown.
        """
        return self._try(lambda: self._transaction(work))

    def look(self, work: Callable[[Tx], T]) -> T:
        """As `transact`, for `work` that only reads: each statement sees what is committed when it begins.

        Saves the two round trips of BEGIN and COMMIT.
        """
        return self._try(lambda: self._alone(work))

    def single(self, work: Callable[[Tx], T]) -> T:
        """As `transact`, for `work` that is one statement: a transaction by itself, in one round trip."""
        return self._try(lambda: self._committing(work))

    def _try(self, once: Callable[[], T]) -> T:
        for attempt in range(1, _TRIES + 1):
            try:
                return once()
            except DBAPIError as error:
                if (_code(error) or "").startswith(_NOT_NOW):
                    raise Unavailable("the database cannot do it now; nothing was changed: try again") from error
                if not _may_run_again(error):
                    raise
                if _code(error) == prepared.STALE:
                    self._engine.dispose()
                if attempt == _TRIES:
                    raise Unavailable("the database does not answer; nothing was changed: try again") from error
                time.sleep(random.uniform(0.01, 0.05) * attempt)  # noqa: S311 - jitter
            except PoolTimeout as error:
                self.starved()
                raise Unavailable("all database connections are in use; try again") from error
        raise AssertionError("unreachable")

    def _transaction(self, work: Callable[[Tx], T]) -> T:
        with self._engine.connect() as tx:
            journal.forget(tx)
            result = work(tx)
            moved = journal.noted(tx)
            try:
                tx.commit()
            except DBAPIError as error:
                raise Unavailable("the database was lost while committing; ask again to learn the outcome") from error
        if moved:
            self.tell(moved)
        return result

    def _alone(self, work: Callable[[Tx], T]) -> T:
        with self._engine.connect() as tx, _autocommit(tx):
            journal.forget(tx)
            result = work(tx)
            moved = journal.noted(tx)
        if moved:
            self.tell(moved)
        return result

    def _committing(self, work: Callable[[Tx], T]) -> T:
        try:
            return self._alone(work)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise Unavailable("the database was lost meanwhile; ask again to learn the outcome") from error
            raise

    def listener(self) -> Any:
        """A connection of its own, in autocommit, for LISTEN: the caller closes it."""
        dsn = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = psycopg2.connect(dsn, connect_timeout=5, application_name=self.name, **_KEEPALIVE)
        connection.autocommit = True
        return connection

    @property
    def in_use(self) -> int:
        """Connections that somebody works with now."""
        return self._engine.pool.checkedout()  # type: ignore[attr-defined, no-any-return]

    def close(self) -> None:
        self._engine.dispose()


@contextlib.contextmanager
def _autocommit(tx: Tx) -> Iterator[None]:
    """psycopg2's own switch: SQLAlchemy's way to the same costs a round trip."""
    raw = tx.connection.dbapi_connection
    assert raw is not None
    raw.autocommit = True
    try:
        yield
    finally:
        if not raw.closed:
            raw.autocommit = False


def _nobody(moved: Sequence[Moved]) -> None:
    """Until somebody wants to hear."""


def _may_run_again(error: DBAPIError) -> bool:
    return bool(error.connection_invalidated) or _code(error) in _TRY_AGAIN or _lost(error)


def _code(error: DBAPIError) -> str | None:
    code: str | None = getattr(error.orig, "pgcode", None)
    return code


def _lost(error: DBAPIError) -> bool:
    """Connecting failed: psycopg2 gives no SQLSTATE then."""
    return isinstance(error.orig, psycopg2.OperationalError) and _code(error) is None


def logged(update: str, move: str, data: str, announced: str = "") -> TextClause:
    """`update`, which RETURNs id and version of the rows it moved, and one event for each, in one statement.

    `data` is a SQL expression over the returned columns, `announced` one of `outbox` if webhooks hear of the move. All
    are constants of this package, never input.
    """
    return text(
        f"WITH moved AS ({update}), logged AS ("
        f"INSERT INTO event (subject, seq, move, data) SELECT id, version, '{move}', {data} FROM moved){announced}"
        " SELECT * FROM moved"
    )
