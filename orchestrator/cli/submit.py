"""`muster submit`: record a request; wait for it, follow it, fetch what it made, if asked to."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import output
from orchestrator.cli.download import save_outputs
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.inputs import gather
from orchestrator.cli.sending import send
from orchestrator.cli.session import Duration, Session, common, pass_session
from orchestrator.cli.text import parse_duration
from orchestrator.cli.watching import stay, tell
from orchestrator.errors import Forbidden, Unavailable

if TYPE_CHECKING:
    from orchestrator.client import Client, Request

FOREVER = "for ever"


@click.command(no_args_is_help=True)
@click.argument("template")
@click.option(
    "-i",
    "--input",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="One input; KEY=@FILE reads a file, or sends it where a file is wanted.",
)
@click.option("--input-file", type=click.Path(path_type=Path), metavar="FILE", help="The whole input, a JSON object.")
@click.option("--stdin", is_flag=True, help="The whole input, a JSON object, from stdin.")
@click.option("--mode", type=click.Choice(["auto", "warm", "batch"]), default="auto", show_default=True)
@click.option("--priority", type=int, default=0, show_default=True, help="Higher goes first.")
@click.option("--timeout", type=Duration(), help="Fail it when it runs longer.")
@click.option("--expire-queued", type=Duration(), help="Give up when it has not started by then.")
@click.option("--wait", is_flag=False, flag_value=FOREVER, metavar="[DURATION]", help="Stay until it is done.")
@click.option("--follow", is_flag=True, help="Stay, and show the log of rank 0.")
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Stay, then download the outputs into DIR.",
)  # fmt: skip
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A mark to find it by.")
@click.option("--webhook", metavar="URL", help="Tell this URL how it ended (docs/webhooks.md).")
@click.option("--idempotency-key", metavar="KEY", help="The same key records one request; default: a random one.")
@common
@pass_session
def submit(
    session: Session,
    template: str,
    pairs: Sequence[str],
    input_file: Path | None,
    stdin: bool,
    mode: str,
    priority: int,
    timeout: timedelta | None,
    expire_queued: timedelta | None,
    wait: str | None,
    follow: bool,
    folder: Path | None,
    labels: Sequence[str],
    webhook: str | None,
    idempotency_key: str | None,
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
    if input_file is not None and stdin:
        raise click.UsageError("give --input-file or --stdin, not both")
    patience = _patience(wait)
    body: dict[str, Any] = {
        "mode": mode,
        "priority": priority,
        "timeout": timeout,
        "expire_queued_after": expire_queued,
        "labels": _labels(labels),
        "webhook": {"url": webhook} if webhook else None,
        "idempotency_key": idempotency_key or str(uuid.uuid4()),
    }
    with session.connect() as client:
        given = gather(
            _schema(client, template) if pairs else None,
            pairs,
            file=input_file,
            stdin=stdin,
            send=lambda path: send(session, client, path),
        )
        request = _record(session, client, template, given, body)
        stays = wait is not None or follow or folder is not None
        _announce(session, request, stays=stays, follow=follow)
        if stays:
            _see_through(session, client, request, patience, follow=follow, folder=folder)


def _record(session: Session, client: Client, template: str, given: dict[str, Any], body: dict[str, Any]) -> Request:
    try:
        return client.submit(template, given, **body)
    except Unavailable:
        key = body["idempotency_key"]
        output.say(session, f"It may or may not be recorded; to ask again safely add: --idempotency-key {key}")
        raise


def _schema(client: Client, template: str) -> Any:
    try:
        return client.template(template).input
    except Forbidden:
        return None  # a token that may submit but not read: the service still checks the input


def _announce(session: Session, request: Request, *, stays: bool, follow: bool) -> None:
    if not session.json:
        output.line(request.id)
    elif not stays:
        output.document(request.raw)
    if not stays and output.on_terminal():
        output.say(
            session,
            f"  wait:    muster wait {request.id}\n"
            f"  logs:    muster logs -f {request.id}\n"
            f"  outputs: muster download {request.id}\n"
            f"  cancel:  muster cancel {request.id}",
        )


def _see_through(
    session: Session,
    client: Client,
    request: Request,
    patience: timedelta | None,
    *,
    follow: bool,
    folder: Path | None,
) -> None:
    if not request.is_terminal or follow:
        request = stay(session, client, request.id, timeout=patience, follow=follow)
    code = tell(session, client, request)
    if session.json and not follow:
        output.document(request.raw)
    if folder is not None and code is ExitCode.OK:
        for path in save_outputs(client, request.id, folder):
            output.say(session, f"saved {path}")
    raise click.exceptions.Exit(code)


def _patience(wait: str | None) -> timedelta | None:
    if wait in (None, FOREVER):
        return None
    try:
        return parse_duration(str(wait))
    except ValueError as error:
        raise click.UsageError(f"--wait {error}; to wait without end put --wait last, or before an option") from error


def _labels(pairs: Sequence[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--label {pair!r}: write KEY=VALUE")
        labels[key] = value
    return labels
