"""`muster retry` and `muster rm`: an ended request once more, or nothing of it any more."""

from __future__ import annotations

from collections.abc import Sequence

import click

from orchestrator.cli import completing, output
from orchestrator.cli.removing import make_sure, one_by_one
from orchestrator.cli.session import Session, common, pass_session


@click.command(no_args_is_help=True)
@click.argument("request_ids", metavar="ID...", nargs=-1, required=True, shell_complete=completing.requests)
@common
@pass_session
def retry(session: Session, request_ids: Sequence[str]) -> None:
    """Send ended requests once more; print the ID of each new request.

    The same input, labels and terms, on the current version of the template. The old one stays as it is; the new one
    names it (`retry_of`).

    \b
    Examples:
      muster retry req_01j...
      muster wait $(muster retry $(muster ls -s failed --since 1h | cut -f1))
    """
    again = []
    with session.connect() as client:
        for request_id in request_ids:
            again.append(client.retry(request_id))
            if not session.json:
                output.line(again[-1].id)
    if session.json:
        output.requests(again)


@click.command(no_args_is_help=True)
@click.argument("request_ids", metavar="ID...", nargs=-1, required=True, shell_complete=completing.requests)
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@pass_session
def rm(session: Session, request_ids: Sequence[str], yes: bool) -> None:
    """Delete ended requests with all that they left: input, result, outputs, events and logs.

    On a terminal it asks first. Exit code 1 for one that is still open: cancel it first.

    \b
    Examples:
      muster rm req_01j...
      muster rm --yes $(muster ls -s succeeded --until 30d -n 1000 | cut -f1)
    """
    make_sure(f"Delete {len(request_ids)} requests and their outputs?", yes=yes)
    one_by_one(session, request_ids, lambda client, request_id: client.delete(request_id), "deleted")
