"""An ID of another kind than the command's: the command that was meant is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click import Command, Group, Option

from orchestrator.cli.kinds import KINDS, meant
from orchestrator.cli.main import muster

BAT, REQ, SCH = "bat_" + "1" * 26, "req_" + "1" * 26, "sch_" + "1" * 26


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (("cancel", BAT), f"{BAT} is a batch: muster batch cancel {BAT}"),
        (("-q", "wait", "--timeout", BAT), f"{BAT} is a batch: muster batch status {BAT} --wait"),
        (("explain", BAT), f"{BAT} is a batch: muster batch status {BAT}"),
        (("batch", "status", REQ), f"{REQ} is a request: muster get {REQ}"),
        (("batch", "rm", "--yes", REQ), f"{REQ} is a request: muster rm {REQ}"),
        (("batch", "pause", SCH), f"{SCH} is a schedule: muster schedule pause {SCH}"),
        (("cancel", REQ), None),
        (("batch", "status", BAT), None),
        (("ls",), None),
        ((), None),
    ],
)
def test_the_command_that_was_meant_is_named(said: tuple[str, ...], told: str | None) -> None:
    assert meant(said) == told


def test_every_command_that_is_named_exists() -> None:
    for kind in KINDS.values():
        commands = muster.commands[kind.group] if kind.group else muster
        assert isinstance(commands, Group)
        assert {one.partition(" ")[0] for one in (kind.look, *kind.verbs.values())} <= commands.commands.keys()


def test_every_help_teaches_with_an_example_and_tells_of_each_option() -> None:
    for words, command in _below(muster, ()):
        assert "xample" in (command.help or "") or not words, f"`muster {' '.join(words)} --help` has no example"
        for one in command.params:
            told = not isinstance(one, Option) or one.hidden or one.help
            assert told, f"`muster {' '.join(words)} --help` says nothing of {one.opts}"


def _below(command: Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Command]]:
    yield words, command
    if isinstance(command, Group):
        for name, inner in command.commands.items():
            yield from _below(inner, (*words, name))
