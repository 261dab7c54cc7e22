"""`muster webhook`: who is told of what happens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from orchestrator.cli import output
from orchestrator.cli.completing import webhooks
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.removing import one_by_one
from orchestrator.cli.session import Commands, Duration, Session, common, pass_session

if TYPE_CHECKING:
    from orchestrator.client import Client, Delivery

COLUMNS = ("ID", "STATE", "EVENTS", "CREATED", "URL")
DELIVERY_COLUMNS = ("ID", "STATE", "TYPE", "TRIES", "ANSWER", "AT", "NEXT TRY")
A_DAY = timedelta(days=1)
PATIENCE = timedelta(seconds=20)
LOOK_EVERY_S = 0.5
STATES = click.Choice(["pending", "delivered", "failed"])
overlap_option = click.option(
    "--overlap", type=Duration(), default=A_DAY, show_default="1d", help="How long the old secret goes on signing too."
)


@click.group(cls=Commands)
def webhook() -> None:
    """Webhooks: who is told of what happens.

    \b
    Examples:
      muster webhook create https://hooks.example.com/muster -e request.failed,batch.completed
      muster webhook test whk_01j...
    """


@webhook.command(no_args_is_help=True)
@click.argument("receiver", metavar="URL")
@click.option("-e", "--event", "events", multiple=True, help="What it hears; default: the four ends of requests.")
@common
@pass_session
def create(session: Session, receiver: str, events: Sequence[str]) -> None:
    """Tell URL of what happens to all of the tenant, and print the secret that signs. It is shown this once.

    \b
    Examples:
      muster webhook create https://hooks.example.com/muster > secret.txt
      muster webhook create https://hooks.example.com/muster -e request.failed,gang.lost
      muster webhook create https://hooks.example.com/nightly -e batch.completed,batch.failed,schedule.skipped
    """
    with session.connect() as client:
        made = client.webhooks.create(receiver, [one for part in events for one in part.split(",") if one])
    if session.json:
        output.document(made.raw)
        return
    output.line(made.secret or "")
    output.say(session, f"{made.id}: the secret is shown only now; `muster webhook test {made.id}` tries it")


@webhook.command()
@click.option("--request", metavar="ID", help="The hook of this request instead.")
@common
@pass_session
def ls(session: Session, request: str | None) -> None:
    """List webhooks, without their secrets.

    In a pipe: TAB-separated ID, state (or why it is disabled), events, created, URL.

    \b
    Examples:
      muster webhook ls
      muster webhook ls --request req_01j...
    """
    with session.connect() as client:
        found = client.webhooks.list(request=request)
    if session.json:
        output.listing(one.raw for one in found)
        return
    rows = [
        (
            one.id,
            "enabled" if one.enabled else f"disabled: {one.disabled_reason}",
            ",".join(one.events or ()),
            one.created_at,
            one.url,
        )
        for one in found
    ]
    output.table(COLUMNS, rows)


@webhook.command(no_args_is_help=True)
@click.argument("webhook_ids", metavar="ID...", nargs=-1, required=True, shell_complete=webhooks)
@common
@pass_session
def rm(session: Session, webhook_ids: Sequence[str]) -> None:
    """Remove webhooks, with what waits for them.

    \b
    Examples:
      muster webhook rm whk_01j...
    """
    one_by_one(session, webhook_ids, lambda client, webhook_id: client.webhooks.remove(webhook_id), "removed")


@webhook.command(no_args_is_help=True)
@click.argument("webhook_id", metavar="ID", shell_complete=webhooks)
@overlap_option
@common
@pass_session
def rotate(session: Session, webhook_id: str, overlap: timedelta) -> None:
    """Make a new secret and print it. Until --overlap is over the old one signs too.

    \b
    Examples:
      muster webhook rotate whk_01j... --overlap 1h > secret.txt
    """
    with session.connect() as client:
        made = client.webhooks.rotate(webhook_id, overlap=overlap)
    _print_secret(session, made.raw, made.secret)


@webhook.command()
@overlap_option
@common
@pass_session
def secret(session: Session, overlap: timedelta) -> None:
    """Make or renew the secret that signs the hooks of single requests (`muster submit --webhook`), and print it.

    \b
    Examples:
      muster webhook secret > secret.txt
    """
    with session.connect() as client:
        made = client.webhooks.renew_request_secret(overlap=overlap)
    _print_secret(session, made.raw, made.secret)


@webhook.command(no_args_is_help=True)
@click.argument("webhook_id", metavar="ID", shell_complete=webhooks)
@common
@pass_session
def enable(session: Session, webhook_id: str) -> None:
    """Let a webhook hear again that was disabled by its receiver's 410.

    \b
    Examples:
      muster webhook enable whk_01j...
    """
    with session.connect() as client:
        found = client.webhooks.enable(webhook_id)
    if session.json:
        output.document(found.raw)
    else:
        output.say(session, f"{webhook_id} hears again; what was given up can be replayed")


@webhook.command(no_args_is_help=True)
@click.argument("webhook_id", metavar="ID", shell_complete=webhooks)
@common
@pass_session
def test(session: Session, webhook_id: str) -> int:
    """Send a webhook.ping and say what became of its first try; exits 0 if it arrived, 1 if not.

    \b
    Examples:
      muster webhook test whk_01j...
    """
    with session.connect() as client:
        tried = _first_try(client, client.webhooks.test(webhook_id))
    if session.json:
        output.document(tried.raw)
    else:
        _print_deliveries([tried])
    if not _was_tried(tried):
        output.complain(f"muster: nothing was sent within {PATIENCE.total_seconds():g} s: is a replica running?")
        return ExitCode.UNFINISHED
    return ExitCode.OK if tried.state == "delivered" else ExitCode.FAILED


@webhook.command(no_args_is_help=True)
@click.argument("webhook_id", metavar="ID", shell_complete=webhooks)
@click.option("-s", "--state", type=STATES, help="Only those.")
@click.option("-n", "--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many at most.")
@common
@pass_session
def deliveries(session: Session, webhook_id: str, state: str | None, limit: int) -> None:
    """List what became of its messages, newest first.

    In a pipe: TAB-separated ID, state, type, tries, last answer, when it happened, next try.

    \b
    Examples:
      muster webhook deliveries whk_01j... --state failed
    """
    with session.connect() as client:
        found = client.webhooks.deliveries(webhook_id, state=state, limit=limit)
    if session.json:
        output.listing(one.raw for one in found)
    else:
        _print_deliveries(found)


@webhook.command(no_args_is_help=True)
@click.argument("webhook_id", metavar="ID", shell_complete=webhooks)
@click.argument("delivery_ids", metavar="MESSAGE...", nargs=-1, required=True)
@common
@pass_session
def replay(session: Session, webhook_id: str, delivery_ids: Sequence[str]) -> None:
    """Send messages once more, under their own IDs.

    \b
    Examples:
      muster webhook replay whk_01j... msg_01j...
    """
    with session.connect() as client:
        sent = [client.webhooks.replay(webhook_id, delivery_id) for delivery_id in delivery_ids]
    if session.json:
        output.listing(one.raw for one in sent)
    else:
        _print_deliveries(sent)


def _print_secret(session: Session, document: object, made: str) -> None:
    if session.json:
        output.document(document)
        return
    output.line(made)
    output.say(session, "shown only now; give it to the receiver")


def _print_deliveries(found: Sequence[Delivery]) -> None:
    rows = [(one.id, one.state, one.type, one.tries, _answer(one), one.at, one.next_try_at) for one in found]
    output.table(DELIVERY_COLUMNS, rows)


def _answer(one: Delivery) -> str:
    """The status, and what was wrong with it."""
    said = [str(one.last_status)] if one.last_status else []
    return " ".join([*said, *([one.last_error] if one.last_error not in (None, "status") else [])])


def _first_try(client: Client, ping: Delivery) -> Delivery:
    until = time.monotonic() + PATIENCE.total_seconds()
    while not _was_tried(ping) and time.monotonic() < until:
        time.sleep(LOOK_EVERY_S)
        ping = client.webhooks.delivery(ping.webhook or "", ping.id)
    return ping


def _was_tried(one: Delivery) -> bool:
    return one.state != "pending" or one.last_error is not None
