"""What every test may ask for: a real Postgres, migrated once, and databases of its own that cost a copy each.

All of it is lazy: a test that asks for no database starts none.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import promises
import pytest
from cluster.ground import binaries
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from orchestrator.store import journal, schema
from orchestrator.store.database import Database, Tx
from orchestrator.store.embedded import EmbeddedPostgres


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Files that share a service go to one worker."""
    if config.getvalue("dist") != "loadfile":
        return None
    from workers import FilesTogether

    return FilesTogether(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was left out must not look like what passed."""
    if lacking := binaries.missing():
        terminalreporter.section("NOT RUN: the tests on a real Kubernetes API", sep="!", red=True, bold=True)
        terminalreporter.line(binaries.remedy(lacking))
    if any("NOT RUN: the Go client" in str(one.longrepr) for one in terminalreporter.stats.get("skipped", ())):
        terminalreporter.section("NOT RUN: the Go client", sep="!", red=True, bold=True)
        terminalreporter.line("needs go and openapi-generator-cli: `make test-go` gets both from PyPI")
    if any("NOT RUN: the tests in a browser" in str(one.longrepr) for one in terminalreporter.stats.get("skipped", ())):
        terminalreporter.section("NOT RUN: the tests in a browser", sep="!", red=True, bold=True)
        terminalreporter.line("install chromium (Debian, Ubuntu: apt-get install chromium), or set MUSTER_CHROMIUM")
    if any("NOT RUN: components with kfp" in str(one.longrepr) for one in terminalreporter.stats.get("skipped", ())):
        terminalreporter.section("NOT RUN: the steps of Kubeflow Pipelines with kfp", sep="!", red=True, bold=True)
        terminalreporter.line("`make test-kfp` makes an environment with kfp, which cannot be beside Muster's packages")


class Server:
    """A Postgres server in which databases come and go."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self._admin = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=8)

    def create(self, name: str, template: str = "template0") -> str:
        """A new database; returns its URL."""
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url.set(database=name).render_as_string(hide_password=False)

    def drop(self, name: str) -> None:
        self.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def run(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(statement))

    def spare_the_disk(self) -> None:
        """A server that nobody crashes waits for no disk: making and dropping a database waits for it most."""
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self.run(f"ALTER SYSTEM SET {setting} = off")
        self.run("SELECT pg_reload_conf()")

    def close(self) -> None:
        self._admin.dispose()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the whole run: MUSTER_TEST_DATABASE_URL, or one of our own."""
    if url := os.environ.get("MUSTER_TEST_DATABASE_URL"):
        given = Server(url)
        yield given
        given.close()
        return
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres")) as postgres:
        own = Server(postgres.url)
        own.spare_the_disk()
        yield own
        own.close()


@contextmanager
def _new_database(server: Server, template: str = "template0") -> Iterator[Database]:
    name = f"test_{uuid4().hex[:16]}"
    database = Database(server.create(name, template), connections=40)
    try:
        yield database
    finally:
        database.close()
        server.drop(name)


@pytest.fixture(scope="session")
def migrated(server: Server) -> Iterator[str]:
    """The name of a database at the newest revision, to copy from; nobody may stay connected to it."""
    name = f"test_template_{uuid4().hex[:16]}"
    database = Database(server.create(name), connections=1)
    schema.migrate(database)
    database.close()
    yield name
    server.drop(name)


@pytest.fixture
def empty_database(server: Server) -> Iterator[Database]:
    """Without a schema."""
    with _new_database(server) as database:
        yield database


@pytest.fixture
def database(server: Server, migrated: str) -> Iterator[Database]:
    """A migrated database of this test alone; every promise must hold in it at the end."""
    with _new_database(server, migrated) as database:
        yield database
        promises.check(database)


@pytest.fixture(scope="module")
def shared_database(server: Server, migrated: str) -> Iterator[Database]:
    """A migrated database of this file: for tests that each work in a pool or tenant of their own."""
    with _new_database(server, migrated) as database:
        yield database
        promises.check(database)


def _check_told(tx: Tx) -> None:
    """Every event of this transaction was told: by itself, or with those of other items of its batch."""
    noted = journal.noted(tx)
    told = Counter((moved.request or moved.gang or moved.batch, moved.move) for moved in noted if not moved.items)
    together: Counter[tuple[str | None, str]] = Counter()
    for moved in noted:
        together[moved.batch, moved.move] += moved.items
    query = """SELECT e.subject, e.move, r.batch_id FROM event e LEFT JOIN request r ON r.id = e.subject
               WHERE e.at >= transaction_timestamp()"""
    events: Counter[tuple[str | None, str]] = Counter()
    of_items: Counter[tuple[str | None, str]] = Counter()
    for row in tx.execute(text(query)):
        alone = row.batch_id is None or (row.subject, row.move) in told
        (events if alone else of_items)[row.subject if alone else row.batch_id, row.move] += 1
    assert told == events
    assert +together == of_items


@pytest.fixture
def tx(shared_database: Database) -> Iterator[Tx]:
    """One open transaction: every promise must hold at its end and every event be told; then it is rolled back."""
    with shared_database._engine.connect() as tx:
        journal.forget(tx)
        yield tx
        assert promises.broken(tx) == {}
        _check_told(tx)
        tx.rollback()
