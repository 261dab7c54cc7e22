"""The examples of docs/schedules.md are what the command line and cron take."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from orchestrator.cli.main import muster
from orchestrator.cli.session import Session
from orchestrator.domain.cron import parse

PAGE = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()
BLOCKS = [re.sub(r"^    ", "", block, flags=re.M) for block in re.findall(r"(?:^(?: {4}.*)?\n)+", PAGE, flags=re.M)]
COMMANDS = re.findall(r"^ {4}(muster .*)$", PAGE, flags=re.M)
(CRONTAB,) = re.findall(r"^ {4}(0 2 \* \* \*) (.*)$", PAGE, flags=re.M)


def taken(words: list[str]) -> dict[str, object]:
    """What the command makes of its words; they end the test if they are not its own."""
    command: click.Command = muster
    while isinstance(command, click.Group):
        name, *words = words
        command = command.commands[name]
    return dict(command.make_context(name, words, obj=Session()).params)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_page_is_one(line: str) -> None:
    assert taken(shlex.split(line, comments=True)[1:])


def test_the_page_shows_commands() -> None:
    assert len(COMMANDS) >= 3


def test_the_crontab_line_names_each_night_and_escapes_what_cron_would_eat() -> None:
    rule, command = CRONTAB
    assert parse(rule, "UTC")
    assert not re.search(r"(?<!\\)%", command)
    words = shlex.split(command.replace("\\%", "%").partition("&&")[2])
    assert words[0] == "muster" and taken(words[1:])["idempotency_key"] == "nightly-$(date -u +%F)"


def test_every_object_of_the_page_in_json_is_json() -> None:
    lines = [line.strip() for block in BLOCKS for line in block.splitlines() if re.match(r'\{"(request|batch)"', line)]
    assert len(lines) == 2 and all(json.loads(line) for line in lines)
