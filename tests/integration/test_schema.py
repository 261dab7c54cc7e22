"""The schema: from nothing to the newest revision and back, by many at once, and its words are the tables' words."""

from __future__ import annotations

import re
from enum import StrEnum

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from races import together
from sqlalchemy import text

from orchestrator.domain.states import TERMINAL, BatchOutcome, BatchState, GangState, Outcome, RequestState
from orchestrator.store import schema
from orchestrator.store.database import Database, Tx

TABLES = """SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'
            UNION ALL SELECT routine_name FROM information_schema.routines WHERE routine_schema = 'public'"""


def _made(database: Database) -> set[str]:
    return set(database.transact(lambda tx: list(tx.execute(text(TABLES)).scalars())))


def test_an_empty_database_has_no_revision_and_migrates_to_the_newest(empty_database: Database) -> None:
    assert schema.revision(empty_database) is None
    assert schema.migrate(empty_database) == schema.head() == schema.revision(empty_database)


def test_migrating_again_changes_nothing(database: Database) -> None:
    before = _made(database)
    assert schema.migrate(database) == schema.head()
    assert _made(database) == before


def test_many_may_migrate_at_once(empty_database: Database) -> None:
    answers = together([lambda: schema.migrate(empty_database)] * 4)
    assert answers == [schema.head()] * 4


def test_a_downgrade_leaves_nothing(database: Database) -> None:
    def downgrade(tx: Tx) -> None:
        config = Config()
        config.set_main_option("script_location", "migrations:")
        config.attributes["connection"] = tx
        command.downgrade(config, "base")

    database.transact(downgrade)
    assert _made(database) == {"alembic_version"}
    assert schema.migrate(database) == schema.head()


def test_a_database_of_the_revision_before_keeps_its_requests(empty_database: Database) -> None:
    def to(tx: Tx, revision: str) -> None:
        config = Config()
        config.set_main_option("script_location", "migrations:")
        config.attributes["connection"] = tx
        command.upgrade(config, revision)

    empty_database.transact(lambda tx: to(tx, "0002"))
    old = text("INSERT INTO payload (request_id, input, labels) VALUES ('req_1', '{}', '{}')")
    empty_database.transact(lambda tx: tx.execute(old))
    assert schema.migrate(empty_database) == schema.head()
    assert empty_database.transact(lambda tx: tx.execute(text("SELECT files FROM payload")).scalar_one()) is None


def _checked_words(database: Database, table: str, column: str) -> list[set[str]]:
    """The words of every CHECK (column IN (...)) and of every other list over the column, largest first."""
    query = """SELECT pg_get_constraintdef(oid) FROM pg_constraint
               WHERE conrelid = CAST(:t AS regclass) AND contype = 'c'"""
    rules = database.transact(lambda tx: list(tx.execute(text(query), {"t": table}).scalars()))
    lists = [re.findall(r"'([a-z_]+)'", rule) for rule in rules if re.search(rf"\({column} = ANY", rule)]
    return sorted((set(words) for words in lists), key=len, reverse=True)


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("request", "state", RequestState),
        ("gang", "state", GangState),
        ("attempt", "outcome", Outcome),
        ("batch", "state", BatchState),
        ("batch", "outcome", BatchOutcome),
    ],
)
def test_the_database_knows_exactly_the_states_of_the_code(
    database: Database, table: str, column: str, words: type[StrEnum]
) -> None:
    assert _checked_words(database, table, column)[0] == set(words)


def test_the_database_knows_exactly_the_terminal_states_of_the_code(database: Database) -> None:
    assert set(TERMINAL) in _checked_words(database, "request", "state")


def test_a_database_is_behind_at_every_revision_but_the_newest_and_those_to_come() -> None:
    known = [each.revision for each in ScriptDirectory.from_config(schema._config()).walk_revisions()]
    assert [schema.is_behind(revision) for revision in known] == [False] + [True] * (len(known) - 1)
    assert schema.is_behind(None) and not schema.is_behind("of-a-newer-version")
