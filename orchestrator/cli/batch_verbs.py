"""What is done to batches from the command line: cancel, pause, resume, retry, rm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.cli import output
from orchestrator.cli.completing import batches
from orchestrator.cli.removing import make_sure, one_by_one
from orchestrator.cli.session import Session, common, pass_session

if TYPE_CHECKING:
    from orchestrator.client import Batch

BatchId = click.argument("batch_id", metavar="ID", shell_complete=batches)


@click.command(no_args_is_help=True)
@BatchId
@common
@pass_session
def cancel(session: Session, batch_id: str) -> None:
    """Start no item any more, and stop those that run. What has succeeded stays; `resume` runs the rest.

    \b
    Examples:
      muster batch cancel bat_01j...
    """
    with session.connect() as client:
        _moved(session, client.batches.cancel(batch_id))


@click.command(no_args_is_help=True)
@BatchId
@common
@pass_session
def pause(session: Session, batch_id: str) -> None:
    """Start no item until the batch is resumed; those that run go on.

    \b
    Examples:
      muster batch pause bat_01j...
    """
    with session.connect() as client:
        _moved(session, client.batches.pause(batch_id))


@click.command(no_args_is_help=True)
@BatchId
@common
@pass_session
def resume(session: Session, batch_id: str) -> None:
    """Go on with a paused batch, or run what has not succeeded of one that is over.

    \b
    Examples:
      muster batch resume bat_01j...
    """
    with session.connect() as client:
        _moved(session, client.batches.resume(batch_id))


def _moved(session: Session, found: Batch) -> None:
    if session.json:
        output.document(found.raw)
    else:
        output.line(f"{found.id}\t{found.status}")


@click.command(no_args_is_help=True)
@BatchId
@click.argument("custom_ids", metavar="CUSTOM_ID...", nargs=-1, required=True)
@common
@pass_session
def retry(session: Session, batch_id: str, custom_ids: Sequence[str]) -> None:
    """Try items again that are over without success; print the request of each.

    \b
    Examples:
      muster batch retry bat_01j... shot-001 shot-007
    """
    again = []
    with session.connect() as client:
        for custom_id in custom_ids:
            again.append(client.batches.retry_item(batch_id, custom_id))
            if not session.json:
                output.line(f"{again[-1].custom_id}\t{again[-1].id}")
    if session.json:
        output.requests(again)


@click.command(no_args_is_help=True)
@click.argument("batch_ids", metavar="ID...", nargs=-1, required=True, shell_complete=batches)
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@pass_session
def rm(session: Session, batch_ids: Sequence[str], yes: bool) -> None:
    """Delete batches that are over, with all that is left of their items: inputs, results, outputs, events, logs.

    On a terminal it asks first. Exit code 1 for one that is still open: cancel it first.

    \b
    Examples:
      muster batch rm bat_01j...
    """
    make_sure(f"Delete {len(batch_ids)} batches with their items and outputs?", yes=yes)
    one_by_one(session, batch_ids, lambda client, batch_id: client.batches.delete(batch_id), "deleted")
