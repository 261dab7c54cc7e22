"""`muster get`, `ls`, `wait`, `cancel`: requests that are on record."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import output
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.output import Cell
from orchestrator.cli.session import Duration, Session, common, pass_session
from orchestrator.cli.text import duration
from orchestrator.cli.watching import stay, tell

if TYPE_CHECKING:
    from orchestrator.client import Client, Request

COLUMNS = ("ID", "STATUS", "TEMPLATE", "DONE", "CREATED", "NOTE")
OPEN = ("queued", "assigned", "running", "canceling")
WATCH_EVERY_S = 2.0


@click.command(no_args_is_help=True)
@click.argument("request_id", metavar="ID")
@common
@pass_session
def get(session: Session, request_id: str) -> None:
    """Show a request: where it is, why, and what it gave.

    \b
    Examples:
      muster get req_01j...
      muster get req_01j... --json | jq .result
    """
    with session.connect() as client:
        request = client.get(request_id)
    if session.json:
        output.document(request.raw)
    else:
        output.fields(_described(request))


@click.command()
@click.option(
    "-s", "--status", "statuses", multiple=True, help="Only these; several, or queued,running; open = all open."
)
@click.option("--template", help="Only requests of this template.")
@click.option("--since", type=Duration(), help="Only those recorded within this time.")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("-w", "--watch", is_flag=True, help="Say again what changes, until Ctrl-C.")
@common
@pass_session
def ls(
    session: Session, statuses: Sequence[str], template: str | None, since: timedelta | None, limit: int, watch: bool
) -> None:
    """List requests, newest first.

    In a pipe: TAB-separated columns (ID, status, template, share done, created, note), no header.
    With -w --json: one JSON line for each request that is new or changed.

    \b
    Examples:
      muster ls -s open
      muster ls -s failed --since 1d
      muster ls --json | jq -r '.data[].id'
    """
    after = datetime.now(UTC) - since if since else None
    wanted = _statuses(statuses)
    with session.connect() as client:
        if watch:
            _watch(session, client, wanted, template, after, limit)
            return
        found = [*_found(client, wanted, template, after, limit)]
    if session.json:
        output.listing(request.raw for request in found)
    else:
        output.table(COLUMNS, [_row(request) for request in found])


@click.command(no_args_is_help=True)
@click.argument("request_ids", metavar="ID...", nargs=-1, required=True)
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
        _print(ended)
    raise click.exceptions.Exit(next((code for code in codes if code is not ExitCode.OK), ExitCode.OK))


@click.command(no_args_is_help=True)
@click.argument("request_ids", metavar="ID...", nargs=-1, required=True)
@common
@pass_session
def cancel(session: Session, request_ids: Sequence[str]) -> None:
    """Ask requests to stop; print ID and status of each.

    A running gang stops at its next step, so the status may be `canceling` for a moment. To cancel a request that is
    over changes nothing.

    \b
    Examples:
      muster cancel req_01j... && muster wait req_01j...
    """
    with session.connect() as client:
        canceled = []
        for request_id in request_ids:
            canceled.append(client.cancel(request_id))
            if not session.json:
                output.line(f"{canceled[-1].id}\t{canceled[-1].status}")
    if session.json:
        _print(canceled)


def _print(requests: Sequence[Request]) -> None:
    """One request is a document, several are a list."""
    if len(requests) == 1:
        output.document(requests[0].raw)
    else:
        output.listing(request.raw for request in requests)


def _statuses(given: Sequence[str]) -> list[str]:
    """`-s queued,running -s failed`; `open` stands for all open ones, British spelling is understood."""
    names = [name.strip() for part in given for name in part.split(",") if name.strip()]
    names = ["canceled" if name == "cancelled" else name for name in names]
    return [one for name in names for one in (OPEN if name == "open" else (name,))]


def _found(
    client: Client, statuses: Sequence[str], template: str | None, after: datetime | None, limit: int
) -> Iterator[Request]:
    if after is None and limit <= 200:
        yield from client.list(status=statuses, template=template, limit=limit).data
        return
    for request in islice(client.iterate(status=statuses, template=template), limit):
        if after is not None and request.created_at is not None and request.created_at < after:
            return
        yield request


def _watch(
    session: Session, client: Client, statuses: Sequence[str], template: str | None, after: datetime | None, limit: int
) -> None:
    said: dict[str, object] = {}
    while True:
        found = [*_found(client, statuses, template, after, limit)]
        for request in reversed(found):
            news = request.raw if session.json else (request.status, request.phase)
            if said.get(request.id) != news:
                said[request.id] = news
                _say_news(session, request)
        time.sleep(WATCH_EVERY_S)


def _say_news(session: Session, request: Request) -> None:
    if session.json:
        output.json_line(request.raw)
    else:
        output.line("\t".join(str(cell) if cell is not None else "" for cell in _row(request)[:4]))


def _row(request: Request) -> tuple[Cell, ...]:
    progress = request.progress
    fraction = progress.fraction if progress else None
    done = "100%" if request.succeeded else None if fraction is None else f"{int(fraction * 100)}%"
    return (request.id, request.status, request.template, done, request.created_at, _note(request))


def _note(request: Request) -> str | None:
    if request.error is not None:
        return f"{request.error.code}: {request.error.message or ''}"
    return None if request.is_terminal else request.waiting or request.phase


def _described(request: Request) -> list[tuple[str, Cell]]:
    placement, error = request.placement, request.error
    return [
        ("id", request.id),
        ("status", request.status),
        ("template", f"{request.template} v{request.template_version}"),
        ("mode", request.mode),
        ("phase", request.phase),
        ("waiting", request.waiting),
        ("done", _row(request)[3]),
        ("placement", f"{placement.kind}: {placement.reason or ''}" if placement else None),
        ("gang", placement.gang if placement else None),
        ("attempt", request.attempt and f"{request.attempt} of {request.max_attempts}"),
        ("input", _compact(request.input)),
        ("labels", _compact(request.labels) if request.labels else None),
        ("result", _compact(request.result)),
        *((f"output {number}", one.name) for number, one in enumerate(request.outputs or (), 1)),
        ("error", f"{error.code}: {error.message or ''}" if error else None),
        ("error rank", error.rank if error else None),
        ("error node", error.node if error else None),
        *_losses(request.raw.get("losses") or ()),
        ("created", request.created_at),
        ("started", request.started_at),
        ("finished", request.finished_at),
        *((key.removesuffix("_s"), _measured(key, value)) for key, value in (request.metrics or {}).items()),
    ]


def _losses(losses: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Cell]]:
    """What went wrong in earlier attempts, and the stacks of the newest of them."""
    for loss in losses:
        where = f"rank {loss['rank']} on {loss['node']}: " if loss.get("rank") is not None else ""
        yield f"lost attempt {loss['attempt']}", f"{loss['reason']}: {where}{loss['message']}"
    newest = losses[0] if losses else {}
    if newest.get("traceback"):
        yield "traceback", "\n" + newest["traceback"].rstrip()
    for stack in newest.get("stacks") or ():
        yield f"stack of rank {stack['rank']}", f"{stack['node']}\n" + stack["stack"].rstrip()


def _measured(key: str, value: object) -> Cell:
    if not isinstance(value, int | float):
        return None if value is None else str(value)
    return duration(value) if key.endswith("_s") and output.on_terminal() else value


def _compact(value: object) -> str | None:
    import json

    return None if value is None else json.dumps(value, ensure_ascii=False)
