"""`muster events`: every move of a request, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from orchestrator.cli import completing, output
from orchestrator.cli.output import Cell
from orchestrator.cli.progress import Outage
from orchestrator.cli.session import Session, common, pass_session
from orchestrator.cli.watching import detachable

if TYPE_CHECKING:
    from orchestrator.client import Client, Event

COLUMNS = ("SEQ", "AT", "MOVE", "STATE", "GANG", "WHY")


@click.command(no_args_is_help=True)
@click.argument("request_id", metavar="ID", shell_complete=completing.requests)
@click.option("-f", "--follow", is_flag=True, help="Stay until the request is done.")
@click.option("--after", type=click.IntRange(0), default=0, metavar="SEQ", help="Only those after this one.")
@common
@pass_session
def events(session: Session, request_id: str, follow: bool, after: int) -> None:
    """Print the moves of a request: what became of it, when and why.

    In a pipe: TAB-separated number, moment, move, state, gang, why. With -f --json: one JSON line for each.

    \b
    Examples:
      muster events req_01j...
      muster events req_01j... -f --json | jq -r .move
    """
    with session.connect() as client:
        if follow:
            with detachable(session, request_id):
                for event in _followed(session, client, request_id, after):
                    _say(session, event)
            return
        found = [event for event in client.events(request_id) if event.seq > after]
    if session.json:
        output.listing(event.raw for event in found)
    else:
        output.table(COLUMNS, [_row(event) for event in found])


def _followed(session: Session, client: Client, request_id: str, after: int) -> Iterator[Event]:
    """Each move as it comes, until the request has ended; none is missed when the service is away for a while."""
    from orchestrator.client import Event

    outage = Outage(lambda text: output.say(session, text))
    since = str(after) if after else None
    for update in client.follow_events(request_id, after=since, on_silence=outage.begun):
        outage.over()
        if update.kind == "status":
            yield Event.read(update.data)


def _say(session: Session, event: Event) -> None:
    if session.json:
        output.json_line(event.raw)
    else:
        output.row(_row(event))


def _row(event: Event) -> tuple[Cell, ...]:
    told = event.data if isinstance(event.data, dict) else {}
    return (event.seq, event.at, event.move, told.get("state"), told.get("gang"), told.get("reason"))
