"""`muster submit`: record a request; wait for it, follow it, fetch what it made, if asked to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import output
from orchestrator.cli.completing import templates
from orchestrator.cli.download import save_outputs
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.orders import Given, Terms, asking, takes_input, takes_terms
from orchestrator.cli.session import Session, common, pass_session
from orchestrator.cli.text import parse_duration
from orchestrator.cli.watching import stay, tell

if TYPE_CHECKING:
    from orchestrator.client import Client, Request

FOREVER = "for ever"


@dataclass(frozen=True, kw_only=True)
class Staying:
    """How long to stay with a request, and what to do meanwhile and at its end."""

    patience: timedelta | None
    follow: bool
    folder: Path | None


@click.command(no_args_is_help=True)
@click.argument("template", shell_complete=templates)
@takes_input
@takes_terms
@click.option("--wait", is_flag=False, flag_value=FOREVER, metavar="[DURATION]", help="Stay until it is done.")
@click.option("--follow", is_flag=True, help="Stay, and show the log of rank 0.")
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Stay, then download the outputs into DIR.",
)  # fmt: skip
@common
@pass_session
def submit(
    session: Session,
    template: str,
    given: Given,
    terms: Terms,
    wait: str | None,
    follow: bool,
    folder: Path | None,
) -> None:
    """Record a request of TEMPLATE and print its ID.

    Inputs are typed by the template's schema. The exit code tells how the request ended when you stay with it
    (--wait, --follow or -o). Ctrl-C leaves; the request goes on.

    \b
    Examples:
      muster submit digits -i digit=3
      muster submit digits -i digit=3 --wait 5m -o pictures
      muster submit wan -i prompt=@prompt.txt --follow
      muster submit wan -i prompt='it jumps' -i image=@cat.png -o videos
      id=$(muster submit digits -i digit=3) && muster wait $id
      echo '{"digit": 3}' | muster submit digits --stdin --json
    """
    staying = _staying(wait, follow, folder)
    with session.connect() as client:
        request = _record(session, client, template, given.gather(session, client, template), terms)
        if not session.json:
            output.line(request.id)
        if staying is not None:
            _see_through(session, client, request, staying)
        elif session.json:
            output.document(request.raw)
        elif output.on_terminal():
            _name_next(session, request)


def _staying(wait: str | None, follow: bool, folder: Path | None) -> Staying | None:
    if wait is None and not follow and folder is None:
        return None
    return Staying(patience=patience_of(wait), follow=follow, folder=folder)


def patience_of(wait: str | None) -> timedelta | None:
    if wait in (None, FOREVER):
        return None
    try:
        return parse_duration(str(wait))
    except ValueError as error:
        raise click.UsageError(f"--wait {error}; to wait without end put --wait last, or before an option") from error


def _record(session: Session, client: Client, template: str, given: dict[str, Any], terms: Terms) -> Request:
    with asking(session, terms.key):
        return client.submit(template, given, **terms.told())


def _name_next(session: Session, request: Request) -> None:
    output.say(
        session,
        f"  wait:    muster wait {request.id}\n"
        f"  why:     muster explain {request.id}\n"
        f"  logs:    muster logs -f {request.id}\n"
        f"  outputs: muster download {request.id}\n"
        f"  cancel:  muster cancel {request.id}",
    )


def _see_through(session: Session, client: Client, request: Request, staying: Staying) -> None:
    if not request.is_terminal or staying.follow:
        request = stay(session, client, request.id, timeout=staying.patience, follow=staying.follow)
    code = tell(session, client, request)
    if session.json and not staying.follow:
        output.document(request.raw)
    if staying.folder is not None and code is ExitCode.OK:
        for path in save_outputs(client, request.id, staying.folder):
            output.say(session, f"saved {path}")
    raise click.exceptions.Exit(code)
