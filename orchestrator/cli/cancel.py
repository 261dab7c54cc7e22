"""`muster cancel`: ask requests to stop, and see that they did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from orchestrator.cli import completing, output
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.removing import make_sure
from orchestrator.cli.session import Session, common, pass_session

if TYPE_CHECKING:
    from orchestrator.client import Client, Request

PATIENCE = timedelta(minutes=2)
"""Longer than a gang that does not listen lives on after a cancel."""


@click.command(no_args_is_help=True)
@click.argument("request_ids", metavar="ID...", nargs=-1, required=True, shell_complete=completing.open_requests)
@click.option("--no-wait", is_flag=True, help="Do not wait until running ones have stopped.")
@click.option("--yes", is_flag=True, help="Do not ask, however many there are.")
@common
@pass_session
def cancel(session: Session, request_ids: Sequence[str], no_wait: bool, yes: bool) -> None:
    """Ask requests to stop, wait until they did; print ID and status of each.

    A running gang stops at its next step and stays warm. To cancel a request that is over changes nothing. On a
    terminal several are asked for once more. Exit code 9 if one still runs after two minutes.

    \b
    Examples:
      muster cancel req_01j...
      muster cancel --yes $(muster ls -s queued --template wan | cut -f1)
      muster cancel --no-wait req_01j...
    """
    make_sure(f"Cancel {len(request_ids)} requests?", yes=yes or len(request_ids) == 1)
    with session.connect() as client:
        asked = [client.cancel(request_id) for request_id in request_ids]
        ended = asked if no_wait else [_ended(session, client, request) for request in asked]
    if session.json:
        output.requests(ended)
    else:
        for request in ended:
            output.line(f"{request.id}\t{request.status}")
    still = not no_wait and any(not request.is_terminal for request in ended)
    raise click.exceptions.Exit(ExitCode.UNFINISHED if still else ExitCode.OK)


def _ended(session: Session, client: Client, request: Request) -> Request:
    if request.is_terminal:
        return request
    output.say(session, f"{request.id} stops at its next step ...")
    return client.wait(request.id, PATIENCE)
