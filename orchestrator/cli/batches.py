"""`muster batch`: many requests at once, from a JSONL file to results."""

from __future__ import annotations

import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import output
from orchestrator.cli.batch_download import download, save_all
from orchestrator.cli.batch_verbs import BatchId, cancel, pause, resume, retry, rm
from orchestrator.cli.batch_watching import FirstItem, described, stay, tell
from orchestrator.cli.completing import templates
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.inputs import regular
from orchestrator.cli.orders import asking, labels_of, no_empty_key
from orchestrator.cli.output import Cell
from orchestrator.cli.session import Commands, Duration, Session, common, pass_session
from orchestrator.cli.submit import FOREVER, patience_of
from orchestrator.cli.text import size

if TYPE_CHECKING:
    from orchestrator.client import Batch, Client

COLUMNS = ("ID", "STATUS", "TEMPLATE", "ITEMS", "SUCCEEDED", "FAILED", "CREATED")
ITEM_COLUMNS = ("CUSTOM ID", "STATUS", "REQUEST", "ATTEMPT", "NOTE")
STDIN = "-"


@click.group(cls=Commands)
def batch() -> None:
    """Batches: many requests at once, from a JSONL file to results (docs/batch.md).

    \b
    Examples:
      echo '{"custom_id": "three", "input": {"digit": 3}}' > lines.jsonl
      muster batch submit digits lines.jsonl --follow
      muster batch download bat_01j... -o pictures
    """


@batch.command(no_args_is_help=True)
@click.argument("template", shell_complete=templates)
@click.argument("source", metavar="FILE")
@click.option("--max-parallel", type=click.IntRange(1, 1000), help="Gangs at once; default: the template's.")
@click.option("--errors", type=click.Choice(["strict", "items"]), help="A bad line refuses all (default), or itself.")
@click.option("--max-failed", metavar="N|N%", help="Stop when more items failed than this.")
@click.option("--on-max-failed", type=click.Choice(["stop", "pause"]), help="What happens then; default: stop.")
@click.option("--priority", type=int, help="Higher goes first.")
@click.option("--expire", type=Duration(), help="Start no item after this long.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A mark to find it by.")
@click.option(
    "--idempotency-key", metavar="KEY", callback=no_empty_key,
    help="The same key and lines are one batch, however often submitted.",
)  # fmt: skip
@click.option("--wait", is_flag=False, flag_value=FOREVER, metavar="[DURATION]", help="Stay until it is over.")
@click.option("--follow", is_flag=True, help="Stay, and say every change in a line.")
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Stay, then save the outputs as DIR/CUSTOM_ID/NAME.",
)  # fmt: skip
@common
@pass_session
def submit(
    session: Session,
    /,
    template: str,
    source: str,
    wait: str | None,
    follow: bool,
    folder: Path | None,
    idempotency_key: str | None,
    **terms: Any,
) -> None:
    """Record a batch of TEMPLATE and print its ID.

    FILE has a line for each item: {"custom_id": "shot-1", "input": {...}}; - is stdin. An upload (fil_...) or a URL
    that the operator allows will do, too. All lines are looked at before anything runs. When you stay, the exit code
    tells how it ended: 0 all items succeeded, 10 some, 1 none. Ctrl-C leaves; the batch goes on.

    \b
    Examples:
      muster batch submit digits digits.jsonl --wait
      muster batch submit digits digits.jsonl -o pictures
      muster batch submit wan shots.jsonl --max-parallel 4 --max-failed 10%
      muster batch submit wan nightly.jsonl --idempotency-key nightly-$(date +%F)
    """
    patience = patience_of(wait)
    with session.connect() as client:
        key = idempotency_key or str(uuid.uuid4())
        found = _recorded(session, client, template, source, key, _said(**terms))
        stays = wait is not None or follow or folder is not None
        _announce(session, found, stays=stays)
        if stays:
            found = stay(session, client, found.id, timeout=patience, follow=follow)
            code = tell(session, found)
            if session.json and not follow:
                output.document(found.raw)
            if folder is not None and found.is_terminal:
                save_all(session, client, found.id, folder, lambda path: output.say(session, f"saved {path}"))
            raise click.exceptions.Exit(code)


def _said(expire: timedelta | None, labels: Sequence[str], **terms: Any) -> dict[str, Any]:
    """As the client takes it."""
    return {**terms, "expire_after": expire, "labels": labels_of(labels) or None}


def _recorded(session: Session, client: Client, template: str, source: str, key: str, terms: dict[str, Any]) -> Batch:
    if source.startswith("fil_") and not Path(source).exists():
        with asking(session, key):
            return client.batches.submit_named(template, file=source, idempotency_key=key, **terms)
    if "://" in source:
        with asking(session, key):
            return client.batches.submit_named(template, url=source, idempotency_key=key, **terms)
    with _lines(session, source) as path:
        if path.stat().st_size > 1 << 20:
            output.say(session, f"sending {size(path.stat().st_size)} ...")
        with asking(session, key):
            return client.batches.submit(template, path, idempotency_key=key, **terms)


@contextmanager
def _lines(session: Session, source: str) -> Iterator[Path]:
    """A file that can be read twice."""
    if source != STDIN:
        yield regular(Path(source))
        return
    with tempfile.NamedTemporaryFile(prefix="muster-", suffix=".jsonl") as kept:
        try:
            while block := sys.stdin.buffer.read(1 << 20):
                kept.write(block)
        except KeyboardInterrupt:
            output.say(session, "\nStopped before the lines had ended; nothing was recorded.")
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
        kept.flush()
        yield Path(kept.name)


def _announce(session: Session, found: Batch, *, stays: bool) -> None:
    if not session.json:
        output.line(found.id)
    elif not stays:
        output.document(found.raw)
    if not stays and output.on_terminal():
        output.say(
            session,
            f"  status:  muster batch status {found.id}\n"
            f"  results: muster batch results {found.id} > results.jsonl\n"
            f"  cancel:  muster batch cancel {found.id}",
        )


@batch.command(no_args_is_help=True)
@BatchId
@click.option("--wait", is_flag=False, flag_value=FOREVER, metavar="[DURATION]", help="Stay until it is over.")
@click.option("--follow", is_flag=True, help="Stay, and say every change in a line.")
@common
@pass_session
def status(session: Session, batch_id: str, wait: str | None, follow: bool) -> None:
    """Show a batch: how far it is, how fast, when it will be done. The exit code tells how it ended.

    \b
    Examples:
      muster batch status bat_01j...
      muster batch status bat_01j... --wait 1h && muster batch results bat_01j... > results.jsonl
    """
    with session.connect() as client:
        if wait is None and not follow:
            found = client.batches.get(batch_id)
            _show(session, found, FirstItem(client).of(found))
            return
        found = stay(session, client, batch_id, timeout=patience_of(wait), follow=follow)
    if not follow or not session.json:
        _show(session, found)
    raise click.exceptions.Exit(tell(session, found))


def _show(session: Session, found: Batch, why: str | None = None) -> None:
    if session.json:
        output.document(found.raw)
    else:
        output.fields(described(found, why))


@batch.command()
@click.option("-s", "--status", "statuses", multiple=True, help="Only these; several, or queued,running.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only those with this label; several: all.")
@click.option("-n", "--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many at most.")
@common
@pass_session
def ls(session: Session, statuses: Sequence[str], labels: Sequence[str], limit: int) -> None:
    """List batches, newest first.

    In a pipe: TAB-separated ID, status, template, items, succeeded, failed, created.

    \b
    Examples:
      muster batch ls -s running
      muster batch ls --label night=2026-11-22
    """
    with session.connect() as client:
        found = client.batches.list(status=_split(statuses), labels=labels_of(labels), limit=limit).data
    if session.json:
        output.listing(one.raw for one in found)
    else:
        output.table(COLUMNS, [_row(one) for one in found])


def _row(one: Batch) -> tuple[Cell, ...]:
    counts = one.counts
    return (one.id, one.status, one.template, counts.total, counts.succeeded, counts.failed, one.created_at)


def _split(given: Sequence[str]) -> list[str]:
    return [name.strip() for part in given for name in part.split(",") if name.strip()]


@batch.command(no_args_is_help=True)
@BatchId
@click.option("-s", "--status", "statuses", multiple=True, help="Only these; several, or failed,canceled.")
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many at most.")
@common
@pass_session
def items(session: Session, batch_id: str, statuses: Sequence[str], limit: int) -> None:
    """List the items of a batch, in the order of their lines.

    In a pipe: TAB-separated custom ID, status, request, attempt, note.

    \b
    Examples:
      muster batch items bat_01j... -s failed
    """
    rows: list[Any] = []
    with session.connect() as client:
        cursor: str | None = None
        while len(rows) < limit:
            left = min(200, limit - len(rows))
            page = client.batches.items(batch_id, status=_split(statuses), limit=left, cursor=cursor)
            rows += page.data
            cursor = page.next_cursor
            if cursor is None:
                break
    if session.json:
        output.listing(one.raw for one in rows)
        return
    output.table(ITEM_COLUMNS, [(one.custom_id, one.status, one.id, one.attempt, _note(one)) for one in rows])


def _note(one: Any) -> str | None:
    return f"{one.error.code}: {one.error.message or ''}" if one.error else one.phase


@batch.command(no_args_is_help=True)
@BatchId
@common
@pass_session
def results(session: Session, batch_id: str) -> None:
    """Write what came out to stdout: a JSON line for each item that is over, in the order of the lines.

    Good at any time; when the batch is over there is one line for each that was sent.

    \b
    Examples:
      muster batch results bat_01j... > results.jsonl
    """
    with session.connect() as client:
        _copy(client.batches.results(batch_id))


@batch.command(no_args_is_help=True)
@BatchId
@common
@pass_session
def errors(session: Session, batch_id: str) -> None:
    """Write what did not succeed to stdout, as lines that can be submitted again.

    \b
    Examples:
      muster batch errors bat_01j... > again.jsonl && muster batch submit wan again.jsonl
    """
    with session.connect() as client:
        _copy(client.batches.errors(batch_id))


def _copy(chunks: AbstractContextManager[Iterator[bytes]]) -> None:
    sys.stdout.flush()
    with chunks as parts:
        for part in parts:
            sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


for verb in (download, cancel, pause, resume, retry, rm):
    batch.add_command(verb)
