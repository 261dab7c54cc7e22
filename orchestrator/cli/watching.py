"""Staying with a request until its end, and telling how it ended. Leaving early never stops the request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from orchestrator.cli import output
from orchestrator.cli.exits import ExitCode, of_request
from orchestrator.cli.loglines import NewLines
from orchestrator.cli.progress import Outage, View, view_for
from orchestrator.cli.session import Session
from orchestrator.cli.text import duration, size
from orchestrator.errors import MusterError

if TYPE_CHECKING:
    from orchestrator.client import Client, Failure, Request

LOG_LINES_SHOWN = 40
LOG_LINES_FOLLOWED = 1000
LAST_LINES_AFTER_S = 1.0  # workers send their log once a second


def stay(
    session: Session, client: Client, request_id: str, *, timeout: timedelta | None = None, follow: bool = False
) -> Request:
    """Like `watch`; Ctrl-C detaches."""
    with detachable(session, request_id):
        request = watch(session, client, request_id, timeout=timeout, follow=follow)
    return request  # noqa: RET504 - mypy takes a context manager for one that may swallow


@contextmanager
def detachable(session: Session, request_id: str, resume: str = "wait") -> Iterator[None]:
    """Ctrl-C leaves with exit code 130 and says how to come back, with the command `resume`; the request goes on."""
    try:
        yield
    except KeyboardInterrupt:
        output.say(
            session,
            f"\nDetached; {request_id} goes on.\n"
            f"  resume:  muster {resume} {request_id}\n"
            f"  cancel:  muster cancel {request_id}",
        )
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None


def watch(
    session: Session, client: Client, request_id: str, *, timeout: timedelta | None = None, follow: bool = False
) -> Request:
    """Shows the request until it is terminal or the time is over; with `follow` also its log."""
    with view_for(session, stream_json=follow) as view:
        return _watch(client, request_id, view, timeout, NewLines() if follow and not session.json else None)


def _watch(client: Client, request_id: str, view: View, timeout: timedelta | None, log: NewLines | None) -> Request:
    outage = Outage(view.note)
    request = None
    for request in client.watch(request_id, timeout=timeout, on_silence=outage.begun):
        outage.over()
        view.show(request)
        if log is not None:
            _note_new(client, request_id, view, log)
    assert request is not None, "watch yields at least once"
    if log is not None and request.is_terminal:
        time.sleep(LAST_LINES_AFTER_S)
        _note_new(client, request_id, view, log)
    return request


def _note_new(client: Client, request_id: str, view: View, log: NewLines) -> None:
    try:
        new = log.of(client.logs(request_id, tail=LOG_LINES_FOLLOWED))
    except MusterError:
        return  # the log is a courtesy here; the request decides
    if new:
        view.note("\n".join(new))


def tell(session: Session, client: Client, request: Request) -> ExitCode:
    """How it ended, on stderr; the exit code that says the same."""
    code = of_request(request)
    if code is ExitCode.UNFINISHED:
        output.say(session, f"{request.id} still runs ({request.status}); resume: muster wait {request.id}")
    elif request.error is not None:
        output.complain(_failed(request, request.error))
        _show_log(client, request, request.error)
    else:
        output.say(session, _ended(request))
    return code


def _ended(request: Request) -> str:
    took = [f"{word} {duration(seconds)}" for word, seconds in _times(request)]
    first = f"{request.id} {request.status}" + (f" ({', '.join(took)})" if took else "")
    outputs = [f"  output {one.name}" + (f", {size(one.bytes)}" if one.bytes else "") for one in request.outputs or ()]
    return "\n".join([first, *outputs])


def _times(request: Request) -> list[tuple[str, float]]:
    metrics = request.metrics or {}
    words = (("queued", "queue_s"), ("cold start", "cold_start_s"), ("ran", "run_s"))
    return [(word, metrics[key]) for word, key in words if isinstance(metrics.get(key), int | float) and metrics[key]]


def _failed(request: Request, error: Failure) -> str:
    places = (("rank", error.rank), ("node", error.node), ("phase", error.phase), ("attempt", error.attempt))
    where = ", ".join(f"{word} {value}" for word, value in places if value is not None)
    said = f"{request.id} {request.status}: {error.code}" + (f" on {where}" if where else "")
    parts = [said, error.message, (error.traceback or "").rstrip()]
    return "\n".join(part for part in parts if part)


def _show_log(client: Client, request: Request, error: Failure) -> None:
    rank = error.rank or 0
    try:
        text = client.logs(request.id, rank=rank, tail=LOG_LINES_SHOWN)
    except MusterError:
        return
    if text.strip():
        output.complain(f"--- last {LOG_LINES_SHOWN} log lines of rank {rank} ---\n{text.rstrip()}")
