"""`muster logs`: what the ranks printed while they worked on a request."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import output
from orchestrator.cli.completing import requests
from orchestrator.cli.loglines import NewLines
from orchestrator.cli.session import Session, common, pass_session
from orchestrator.cli.watching import LAST_LINES_AFTER_S, LOG_LINES_FOLLOWED, detachable

if TYPE_CHECKING:
    from orchestrator.client import Client

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
@common
@pass_session
def logs(session: Session, request_id: str, follow: bool, rank: str, tail: int) -> None:
    """Print the log of a request.

    With --rank all or several ranks, every line starts with its rank: `[r1] `.

    \b
    Examples:
      muster logs req_01j... -f
      muster logs req_01j... --rank all -n 50
    """
    with session.connect() as client:
        if follow:
            _follow(session, client, request_id, rank, tail)
        else:
            show(session, client.logs(request_id, rank=rank, tail=tail))


def show(session: Session, text: str) -> None:
    if session.json:
        output.listing(text.splitlines())
    else:
        output.lines(text)


def _follow(session: Session, client: Client, request_id: str, rank: str, tail: int) -> None:
    log, first = NewLines(), True

    def show_new() -> None:
        nonlocal first
        new = log.of(client.logs(request_id, rank=rank, tail=max(tail, LOG_LINES_FOLLOWED)))
        for line in new[-tail:] if first else new:
            _show_line(session, line)
        first = False

    with detachable(session, request_id, resume="logs -f"):
        for _ in client.watch(request_id):
            show_new()
        time.sleep(LAST_LINES_AFTER_S)
        show_new()


def _show_line(session: Session, line: str) -> None:
    if session.json:
        output.json_line({"line": line})
    else:
        output.lines(line)
