"""`muster explain`: why it waits, what it does, why it failed, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli import output
from orchestrator.cli.completing import explainable
from orchestrator.cli.session import Session, common, pass_session
from orchestrator.cli.text import safe_lines

if TYPE_CHECKING:
    from orchestrator.client import Cause, Client, Explanation

COLUMNS = ("CODE", "SENTENCE", "COMMAND")


@click.command(no_args_is_help=True)
@click.argument("subject", metavar="ID|TEMPLATE", shell_complete=explainable)
@common
@pass_session
def explain(session: Session, subject: str) -> None:
    """Say why a request waits or failed, what a gang does, or why a template's requests do not start.

    ID is of a request (req_...) or of a gang (gng_..., or its name); anything else names a template. A request that
    waits: its position, when it should start and on which figures that rests, what each gang does. One that runs: its
    step, its rate, the slowest rank. One that failed: rank, node and traceback, whose fault it was, what to do.
    In a pipe: TAB-separated code and sentence, then `next`, a sentence and its command.

    \b
    Examples:
      muster explain req_01j...
      muster explain gng_01j...
      muster explain digits
      muster explain req_01j... --json | jq -r '.findings[].code'
    """
    with session.connect() as client:
        found = _asked(client, subject)
    if session.json:
        output.document(found.raw)
    elif output.on_terminal():
        _tell(found)
    else:
        rows = [(one.code, one.sentence) for one in found.findings]
        output.table(COLUMNS, [*rows, *(("next", one.sentence, one.command) for one in found.next)])


def _asked(client: Client, subject: str) -> Explanation:
    if subject.startswith("req_"):
        return client.explain(subject)
    return client.explain_gang(subject) if subject.startswith(("gng_", "m-")) else client.explain_pool(subject)


def _tell(found: Explanation) -> None:
    output.line(f"{found.of} ({found.kind}, {found.status})")
    for one in found.findings:
        click.echo(f"  {safe_lines(one.sentence)}")
    if found.cause is not None:
        _tell_cause(found.cause)
    if found.next:
        _title("What you can do")
    for step in found.next:
        click.echo(safe_lines(f"  {step.sentence}" + (f":  {step.command}" if step.command else "")))


def _tell_cause(cause: Cause) -> None:
    if cause.traceback:
        _title("Traceback")
        output.lines(cause.traceback.rstrip())
    if cause.log:
        _title(f"Last lines of rank {cause.rank or 0}")
        output.lines(cause.log.rstrip())


def _title(words: str) -> None:
    click.echo(f"\n{words}:")
