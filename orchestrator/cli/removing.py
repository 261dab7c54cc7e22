"""What several commands do alike that remove things: ask first, go one by one, say what is gone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.cli import output
from orchestrator.cli.session import Session

if TYPE_CHECKING:
    from orchestrator.client import Client


def make_sure(question: str, *, yes: bool) -> None:
    """Ask whoever sits at a terminal, unless the answer was given before; a no ends the command."""
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


def one_by_one(
    session: Session, names: Sequence[str], remove: Callable[[Client, str], object], word: str, *, called: str = "id"
) -> None:
    """`word`: what each is then, `removed` say; `called`: what its name is in JSON."""
    with session.connect() as client:
        for name in names:
            remove(client, name)
            output.say(session, f"{word} {name}")
    if session.json:
        output.listing({called: name, word: True} for name in names)
