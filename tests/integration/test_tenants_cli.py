"""`muster tenant`: straight in the database, as an operator does it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from orchestrator.store import tokens
from orchestrator.store.database import Database


class Shell:
    """Runs `muster` in a process of its own."""

    def __init__(self, **environment: str) -> None:
        self._environment = {**os.environ, **environment}
        self.out = ""

    def run(self, *arguments: str) -> int:
        command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60, check=False)
        self.out = done.stdout
        return done.returncode

    def told(self, *arguments: str) -> Any:
        assert self.run(*arguments, "--json") == 0, self.out
        return json.loads(self.out)


@pytest.fixture
def shell(database: Database) -> Shell:
    return Shell(MUSTER_DATABASE_URL=database.url)


def test_a_tenant_is_made_bounded_and_shown(shell: Shell) -> None:
    made = shell.told("tenant", "set", "ads", "--max-open", "5", "--submit-rate", "2.5")
    assert (made["id"], made["max_open"], made["submit_rate"], made["max_waits"]) == ("ads", 5, 2.5, None)
    assert shell.told("tenant", "set", "ads", "--max-open", "default")["max_open"] is None
    assert shell.run("tenant", "ls") == 0
    assert [line.split("\t")[0] for line in shell.out.splitlines()] == ["ads", "default"]


@pytest.mark.parametrize("said", ["-1", "1.5"])
def test_a_bound_is_a_whole_number(shell: Shell, said: str) -> None:
    assert shell.run("tenant", "set", "ads", f"--max-open={said}") == 2


def test_the_first_token_of_a_tenant_is_its_own(shell: Shell, database: Database) -> None:
    create = ["token", "create", "ci", "--scope", "read", "--local", "--tenant", "ads"]
    assert shell.run(*create) == 2
    shell.told("tenant", "set", "ads")
    assert shell.run(*create) == 0
    token = shell.out.strip()
    found = database.look(lambda tx: tokens.identify(tx, token))
    assert found is not None and found[0].tenant == "ads"


def test_without_a_database_it_says_what_is_missing() -> None:
    assert Shell(MUSTER_DATABASE_URL="").run("tenant", "ls") == 2
