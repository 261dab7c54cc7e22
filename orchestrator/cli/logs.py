"""`muster logs`: what the ranks printed while they worked on a request."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import output
from orchestrator.cli.completing import requests
from orchestrator.cli.progress import Outage
from orchestrator.cli.session import Moment, Session, common, pass_session
from orchestrator.cli.text import moment
from orchestrator.cli.watching import detachable

if TYPE_CHECKING:
    from orchestrator.client import LogChunk

    RanksType = click.ParamType[str]
else:
    RanksType = click.ParamType

RANKS = re.compile(r"all|[0-9]{1,6}(,[0-9]{1,6})*")


class Ranks(RanksType):
    name = "ranks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not RANKS.fullmatch(value):
            self.fail(f"{value!r}: write a rank, several as 1,3, or all", param, ctx)
        return str(value)


@click.command(no_args_is_help=True)
@click.argument("request_id", metavar="ID", shell_complete=requests)
@click.option("-f", "--follow", is_flag=True, help="Stay until the request is done.")
@click.option("--rank", type=Ranks(), default="0", show_default=True, help="0, 1,3 or all.")
@click.option("-n", "--tail", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Lines to show.")
@click.option("--since", type=Moment(), help="Only lines written after 5m, 2h, 1d ago, or an RFC 3339 moment.")
@click.option("--timestamps", is_flag=True, help="Begin each line with when it was sent, by the pod's clock.")
@common
@pass_session
def logs(
    session: Session, request_id: str, follow: bool, rank: str, tail: int, since: datetime | None, timestamps: bool
) -> None:
    """Print the log of a request.

    With --rank all or several ranks, every line starts with its rank: `[r1] `. Lines of one rank keep their order. With
    -f --json: one JSON line for each, with `rank`, `at` and `line`.

    \b
    Examples:
      muster logs req_01j... -f
      muster logs req_01j... --rank all -n 50
      muster logs req_01j... --rank 0,3 --since 5m --timestamps
    """
    with session.connect() as client:
        if not follow and not timestamps:
            show(session, client.logs(request_id, rank=rank, tail=tail, since=since))
            return
        if not follow and not client.get(request_id).is_terminal:
            raise click.UsageError("--timestamps of a request that has not ended needs -f")
        shown = _Shown(session, prefixed=not rank.isdigit(), timed=timestamps)
        outage = Outage(lambda text: output.say(session, text))
        with detachable(session, request_id, resume="logs -f"):
            for chunk in client.follow_logs(request_id, rank=rank, tail=tail, since=since, on_silence=outage.begun):
                outage.over()
                shown.add(chunk)
        shown.finish()


def show(session: Session, text: str) -> None:
    if session.json:
        output.listing(text.splitlines())
    else:
        output.lines(text)


class _Shown:
    """Lines as they come. A chunk may end in the middle of one, and those of several ranks come in turn."""

    def __init__(self, session: Session, *, prefixed: bool, timed: bool) -> None:
        self._session = session
        self._prefixed = prefixed
        self._timed = timed
        self._begun: dict[int, tuple[str, datetime | None]] = {}

    def add(self, chunk: LogChunk) -> None:
        begun, at = self._begun.pop(chunk.rank, ("", chunk.at))
        *whole, rest = (begun + chunk.text).split("\n")
        for line in whole:
            self._say(chunk.rank, at, line)
            at = chunk.at
        if rest:
            self._begun[chunk.rank] = (rest, at)

    def finish(self) -> None:
        """What was begun and will not be ended."""
        for rank, (rest, at) in self._begun.items():
            self._say(rank, at, rest)

    def _say(self, rank: int, at: datetime | None, line: str) -> None:
        if self._session.json:
            output.json_line({"rank": rank, "at": at and moment(at), "line": line})
            return
        when = f"{moment(at)} " if self._timed and at else ""
        output.lines(when + (f"[r{rank}] " if self._prefixed else "") + line + "\n")
