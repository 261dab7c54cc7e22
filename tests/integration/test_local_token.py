"""The token that `muster up` leaves for the command line: good while it runs, and not for long after it was killed."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.service import local
from orchestrator.settings import Settings
from orchestrator.store import tokens
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path)


def token_in(settings: Settings) -> str:
    return str(json.loads(settings.local_file.read_text())["token"])


def is_good(database: Database, token: str) -> bool:
    return database.transact(lambda tx: tokens.identify(tx, token)) is not None


def test_the_token_is_revoked_in_good_order(database: Database, settings: Settings) -> None:
    with local.local_token(settings, database, "http://here:1"):
        token = token_in(settings)
        assert is_good(database, token)
    assert not is_good(database, token) and not settings.local_file.exists()


def test_the_token_of_a_run_that_was_killed_is_revoked_by_the_next_one(database: Database, settings: Settings) -> None:
    killed = local.local_token(settings, database, "http://here:1")
    killed.__enter__()
    left = token_in(settings)
    with local.local_token(settings, database, "http://here:1"):
        assert not is_good(database, left) and is_good(database, token_in(settings))
    killed.__exit__(None, None, None)


def test_without_renewal_the_token_expires(database: Database, settings: Settings) -> None:
    with local.local_token(settings, database, "http://here:1"):
        (row,) = database.transact(lambda tx: tokens.list_all(tx, "default"))
        assert row.expires_at - row.created_at < 2 * local.LOCAL_TOKEN_LASTS


def test_a_renewal_makes_an_expired_token_good_again_and_no_revoked_one(database: Database) -> None:
    token_id, token = database.transact(
        lambda tx: tokens.create(tx, tenant="default", name="local", scopes=[Scope.READ], expires_in=timedelta())
    )
    assert not is_good(database, token)
    local._renew(database, token_id)
    assert is_good(database, token)
    database.transact(lambda tx: tokens.revoke(tx, "default", token_id))
    local._renew(database, token_id)
    assert not is_good(database, token)
