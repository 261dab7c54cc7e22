"""The schema of the database: brings it to the newest revision and tells where it stands."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from orchestrator.store.database import Database, Tx

_LOCK = 0x4D555354  # any constant; spells MUST


def migrate(database: Database) -> str:
    """Bring the schema to the newest revision in one transaction and return it; many may call at once."""
    return database.transact(_upgrade)


def revision(database: Database) -> str | None:
    """The revision of the database; None if it is empty."""
    return database.transact(lambda tx: MigrationContext.configure(tx).get_current_revision())


def head() -> str:
    """The revision that this version of the code was written for."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    if found is None:
        raise AssertionError("the package holds no migrations")
    return found


def is_behind(found: str | None) -> bool:
    """Whether a database at this revision lacks what this version needs. One that is not known here is newer."""
    known = {each.revision for each in ScriptDirectory.from_config(_config()).walk_revisions()}
    return found is None or (found in known and found != head())


def _upgrade(tx: Tx) -> str:
    tx.execute(text("SET LOCAL statement_timeout = 0"))
    tx.execute(text("SET LOCAL lock_timeout = '60s'"))
    tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    config = _config()
    config.attributes["connection"] = tx
    command.upgrade(config, "head")
    return head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "migrations:")
    return config
