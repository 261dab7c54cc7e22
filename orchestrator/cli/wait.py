"""`muster wait`: stay until requests are done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

import click

from orchestrator.cli import completing, output
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.session import Duration, Session, common, pass_session
from orchestrator.cli.watching import stay, tell


@click.command(no_args_is_help=True)
@click.argument("request_ids", metavar="ID...", nargs=-1, required=True, shell_complete=completing.open_requests)
@click.option("--timeout", type=Duration(), help="Leave with exit code 9 when it is not done by then.")
@common
@pass_session
def wait(session: Session, request_ids: Sequence[str], timeout: timedelta | None) -> None:
    """Stay until requests are done; print ID and status of each.

    The exit code is that of the first request that did not succeed.

    \b
    Examples:
      muster wait req_01j... --timeout 10m
      muster wait $(muster ls -s open | cut -f1)
    """
    until = None if timeout is None else time.monotonic() + timeout.total_seconds()
    ended, codes = [], []
    with session.connect() as client:
        for request_id in request_ids:
            left = None if until is None else timedelta(seconds=max(0.0, until - time.monotonic()))
            request = stay(session, client, request_id, timeout=left)
            codes.append(tell(session, client, request))
            ended.append(request)
            if not session.json:
                output.line(f"{request.id}\t{request.status}")
    if session.json:
        output.requests(ended)
    raise click.exceptions.Exit(next((code for code in codes if code is not ExitCode.OK), ExitCode.OK))
