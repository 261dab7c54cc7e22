"""Staying with a batch until it is over: one line redrawn on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Self

import click

from orchestrator.cli import output
from orchestrator.cli.exits import ExitCode, of_batch
from orchestrator.cli.output import Cell
from orchestrator.cli.progress import HEARTBEAT_S, NUMBER, Outage, short_ids
from orchestrator.cli.session import Session
from orchestrator.cli.text import clock, duration, safe, safe_lines
from orchestrator.errors import MusterError

if TYPE_CHECKING:
    from orchestrator.client import Batch, Client

BAR = 20
PLACE = re.compile(r"^position \d+ in bat_\w+(; |$)")
"""What an item says of its place in the batch: of the first one nobody needs it."""


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
    plain = follow or session.quiet or not output.on_terminal(sys.stderr) or os.environ.get("TERM") == "dumb"
    with _Lines(session, follow=follow) if plain else _Live() as view:
        reason, outage = FirstItem(client), Outage(view.note)
        for batch in client.batches.watch(batch_id, timeout=timeout, on_silence=outage.begun):
            outage.over()
            view.show(batch, reason.of(batch))
    return batch


class FirstItem:
    """Why nothing of a batch runs yet: what the first item that is queued waits for."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._id: str | None = None

    def of(self, batch: Batch) -> str | None:
        """Nothing where items run, or where that is not to be had: it is a courtesy."""
        if batch.is_terminal or not batch.counts.queued or batch.counts.running or batch.status != "queued":
            return None
        with suppress(MusterError):
            if self._id is None:
                self._id = next((one.id for one in self._client.batches.items(batch.id, limit=1).data), None)
            waiting = self._client.get(self._id).waiting if self._id else None
            return PLACE.sub("", waiting or "") or None
        return None


class _Live:
    """One line on a terminal, redrawn in place, gone at the end."""

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(console=output.console(sys.stderr), transient=True, auto_refresh=False)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, batch: Batch, why: str | None) -> None:
        from rich.text import Text

        said = sentence(batch, why, width=self._live.console.width)
        self._live.update(Text(said, no_wrap=True, overflow="crop", end=""), refresh=True)

    def note(self, text: str) -> None:
        self._live.console.print(safe_lines(text), soft_wrap=True)


class _Lines:
    """Says a batch again when its status changed or half a minute passed; with `follow` whenever anything did."""

    def __init__(self, session: Session, *, follow: bool) -> None:
        self._session = session
        self._follow = follow
        self._said: object = None
        self._said_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, batch: Batch, why: str | None) -> None:
        news = (batch.status, batch.counts if self._follow else None, NUMBER.sub("", why or ""))
        if self._said == news and time.monotonic() - self._said_at < HEARTBEAT_S:
            return
        self._said, self._said_at = news, time.monotonic()
        if self._follow and self._session.json:
            output.json_line(batch.raw)
        else:
            output.say(self._session, sentence(batch, why))

    def note(self, text: str) -> None:
        output.say(self._session, text)


def sentence(batch: Batch, why: str | None = None, *, width: int = 0) -> str:
    """`bat_… running [#####-----] 512/1000 51%, 3 failed, 4.2/s, eta 1:57, 2 gangs`; with a shorter ID and bar
    where `width` is too little. `why`: nothing runs yet.
    """
    shapes = ((BAR, safe), (BAR, short_ids), (BAR // 2, short_ids), (0, short_ids))
    for bar, spelt in shapes:
        said = spelt(safe(_said(batch, why, bar)))
        if not width or len(said) <= width:
            break
    return said


def _said(batch: Batch, why: str | None, bar: int) -> str:
    counts = batch.counts
    parts = [f"{batch.id} {batch.status}"]
    if counts.total:
        done = counts.over / counts.total
        filled = int(bar * done)
        drawn = [f"[{'#' * filled}{'-' * (bar - filled)}]"] if bar else []
        parts += [*drawn, f"{counts.over}/{counts.total} {int(100 * done)}%"]
    return ", ".join([" ".join(parts), *_more(batch, why)])


def _more(batch: Batch, why: str | None) -> list[str]:
    more = [f"{number} {word}" for word in ("failed", "refused") if (number := getattr(batch.counts, word))]
    if batch.rate_per_s:
        more.append(_rate(batch.rate_per_s))
    if batch.eta_s:
        more.append(f"eta {clock(batch.eta_s)}")
    if why:
        more.append(why)
    elif batch.gangs and not batch.is_terminal:
        more.append(f"{batch.gangs} gang{'s' if batch.gangs > 1 else ''}")
    if batch.status == "paused":
        more.append(f"{batch.reason or 'by a person'}; to go on: muster batch resume {batch.id}")
    return more


def _rate(per_s: float) -> str:
    """Of slow items by the minute or hour: 0.0/s tells nothing."""
    for unit, seconds, least in (("s", 1, 0.1), ("min", 60, 1.0)):
        if per_s * seconds >= least:
            return f"{per_s * seconds:.1f}/{unit}"
    return f"{per_s * 3600:.1f}/h"


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


def described(batch: Batch, why: str | None = None) -> list[tuple[str, Cell]]:
    counts = batch.counts
    return [
        ("id", batch.id),
        ("status", batch.status),
        ("waiting", why),
        ("outcome", batch.outcome),
        ("reason", batch.reason),
        ("template", batch.template),
        ("items", counts.total),
        *((word, getattr(counts, word) or None) for word in ("queued", "running", "succeeded", "failed")),
        *((word, getattr(counts, word) or None) for word in ("canceled", "expired", "refused")),
        ("gangs", f"{batch.gangs} of {batch.max_parallel}" if not batch.is_terminal else None),
        ("rate", _rate(batch.rate_per_s) if batch.rate_per_s else None),
        ("eta", clock(batch.eta_s) if batch.eta_s else None),
        ("gpu seconds", batch.gpu_seconds),
        *((f"line {one.line}", f"{one.code}: {one.message}") for one in batch.refusals or ()),
        ("created", batch.created_at),
        ("started", batch.started_at),
        ("finished", batch.finished_at),
    ]
