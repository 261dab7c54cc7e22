"""Staying with a batch until it is over: one line redrawn on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from orchestrator.cli import output
from orchestrator.cli.exits import ExitCode, of_batch
from orchestrator.cli.output import Cell
from orchestrator.cli.session import Session
from orchestrator.cli.text import clock, duration, safe

if TYPE_CHECKING:
    from orchestrator.client import Batch, Client

BAR = 20
HEARTBEAT_S = 30.0


def stay(
    session: Session, client: Client, batch_id: str, *, timeout: timedelta | None = None, follow: bool = False
) -> Batch:
    """The batch when it is over, or as it is when the time is; Ctrl-C detaches with exit code 130."""
    try:
        return _watch(session, client, batch_id, timeout, follow=follow)
    except KeyboardInterrupt:
        output.say(
            session,
            f"\nDetached; {batch_id} goes on.\n"
            f"  status:  muster batch status {batch_id} --wait\n"
            f"  cancel:  muster batch cancel {batch_id}",
        )
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None


def _watch(session: Session, client: Client, batch_id: str, timeout: timedelta | None, *, follow: bool) -> Batch:
    if follow or session.quiet or not output.on_terminal(sys.stderr) or os.environ.get("TERM") == "dumb":
        say = _news(session, follow=follow)
        for batch in client.batches.watch(batch_id, timeout=timeout):
            say(batch)
        return batch
    return _live(client, batch_id, timeout)


def _live(client: Client, batch_id: str, timeout: timedelta | None) -> Batch:
    from rich.live import Live
    from rich.text import Text

    with Live(console=output.console(sys.stderr), transient=True, auto_refresh=False) as live:
        for batch in client.batches.watch(batch_id, timeout=timeout):
            live.update(Text(sentence(batch), no_wrap=True, overflow="crop", end=""), refresh=True)
    return batch


def _news(session: Session, *, follow: bool) -> Callable[[Batch], None]:
    """Says a batch again when its status changed or half a minute passed; with `follow` whenever anything did."""
    said: object = None
    said_at = time.monotonic()

    def say(batch: Batch) -> None:
        nonlocal said, said_at
        news = batch.counts if follow else batch.status
        if said == (batch.status, news) and time.monotonic() - said_at < HEARTBEAT_S:
            return
        said, said_at = (batch.status, news), time.monotonic()
        if follow and session.json:
            output.json_line(batch.raw)
        else:
            output.say(session, sentence(batch))

    return say


def sentence(batch: Batch) -> str:
    """`bat_… running [#####-----] 512/1000 51%, 3 failed, 4.2/s, eta 1:57 (2 gangs)`."""
    counts = batch.counts
    parts = [f"{batch.id} {batch.status}"]
    if counts.total:
        done = counts.over / counts.total
        filled = int(BAR * done)
        parts.append(f"[{'#' * filled}{'-' * (BAR - filled)}] {counts.over}/{counts.total} {int(100 * done)}%")
    told = " ".join(parts)
    more = [f"{number} {word}" for word in ("failed", "refused") if (number := getattr(counts, word))]
    if batch.rate_per_s:
        more.append(f"{batch.rate_per_s:.1f}/s")
    if batch.eta_s:
        more.append(f"eta {clock(batch.eta_s)}")
    if batch.gangs and not batch.is_terminal:
        more.append(f"{batch.gangs} gang{'s' if batch.gangs > 1 else ''}")
    if batch.status == "paused":
        more.append(f"{batch.reason or 'by a person'}; to go on: muster batch resume {batch.id}")
    return safe(", ".join([told, *more]))


def tell(session: Session, batch: Batch) -> ExitCode:
    """How it ended, on stderr; the exit code that says the same."""
    code = of_batch(batch)
    if code is ExitCode.UNFINISHED:
        output.say(session, _not_over(batch))
    elif code is ExitCode.OK:
        output.say(session, f"{batch.id} completed: all {batch.counts.total} items succeeded{_took(batch)}")
    else:
        output.complain(_ended(batch))
    return code


def _not_over(batch: Batch) -> str:
    if batch.status == "paused":
        return f"{batch.id} is paused; to go on: muster batch resume {batch.id}"
    return f"{batch.id} still runs ({batch.status}); go on: muster batch status {batch.id} --wait"


def _ended(batch: Batch) -> str:
    counts = batch.counts
    words = ("succeeded", "failed", "canceled", "expired", "refused")
    told = ", ".join(f"{number} {word}" for word in words if (number := getattr(counts, word)))
    lines = [f"{batch.id} {batch.status}: of {counts.total} items {told or 'none ran'}{_took(batch)}"]
    if batch.reason:
        lines.append(f"  {batch.reason}")
    lines += [f"  line {one.line}: {one.code}: {one.message}" for one in batch.refusals or ()]
    if counts.over > counts.succeeded or counts.refused:
        lines.append(f"  see: muster batch errors {batch.id}")
    return "\n".join(lines)


def _took(batch: Batch) -> str:
    if batch.started_at is None or batch.finished_at is None:
        return ""
    return f" in {duration((batch.finished_at - batch.started_at).total_seconds())}"


def described(batch: Batch) -> list[tuple[str, Cell]]:
    counts = batch.counts
    return [
        ("id", batch.id),
        ("status", batch.status),
        ("outcome", batch.outcome),
        ("reason", batch.reason),
        ("template", batch.template),
        ("items", counts.total),
        *((word, getattr(counts, word) or None) for word in ("queued", "running", "succeeded", "failed")),
        *((word, getattr(counts, word) or None) for word in ("canceled", "expired", "refused")),
        ("gangs", f"{batch.gangs} of {batch.max_parallel}" if not batch.is_terminal else None),
        ("rate", f"{batch.rate_per_s:.2f} per s" if batch.rate_per_s else None),
        ("eta", clock(batch.eta_s) if batch.eta_s else None),
        ("gpu seconds", batch.gpu_seconds),
        *((f"line {one.line}", f"{one.code}: {one.message}") for one in batch.refusals or ()),
        ("created", batch.created_at),
        ("started", batch.started_at),
        ("finished", batch.finished_at),
    ]
