"""`muster ls`: which requests there are, once or as they change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import completing, output
from orchestrator.cli.get import share_done
from orchestrator.cli.orders import labels_of
from orchestrator.cli.output import Cell
from orchestrator.cli.progress import Outage
from orchestrator.cli.session import Moment, Session, common, pass_session
from orchestrator.errors import Unavailable

if TYPE_CHECKING:
    from orchestrator.client import Client, Request

COLUMNS = ("ID", "STATUS", "TEMPLATE", "DONE", "CREATED", "NOTE")
OPEN = ("queued", "assigned", "running", "canceling")
WATCH_EVERY_S = 2.0
PAGE = 200


@click.command()
@click.option(
    "-s", "--status", "statuses", multiple=True, help="Only these; several, or queued,running; open = all open."
)
@click.option("--template", shell_complete=completing.templates, help="Only requests of this template.")
@click.option("--mode", type=click.Choice(["auto", "warm", "batch"]), help="Only those that asked for this.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only those with this label; several: all.")
@click.option("--since", type=Moment(), help="Only those recorded after 5m, 2h, 1d ago, or an RFC 3339 moment.")
@click.option("--until", type=Moment(), help="Only those recorded before; written like --since.")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@click.option("-w", "--watch", is_flag=True, help="Say again what changes, until Ctrl-C.")
@common
@pass_session
def ls(session: Session, /, limit: int, watch: bool, **asked: Any) -> None:
    """List requests, newest first.

    In a pipe: TAB-separated columns (ID, status, template, share done, created, note), no header.
    With -w --json: one JSON line for each request that is new or changed.

    \b
    Examples:
      muster ls -s open
      muster ls -s failed --since 1d
      muster ls --label team=ads --label shot=7
      muster ls -w --json | jq -r 'select(.is_terminal) | .id'
      muster ls --json | jq -r '.data[].id'
    """
    wanted = _wanted(**asked)
    with session.connect() as client:
        if watch:
            _watch(session, client, wanted, limit)
            return
        found = [*islice(client.iterate(**wanted), limit)] if limit > PAGE else client.list(limit=limit, **wanted).data
    if session.json:
        output.listing(request.raw for request in found)
    else:
        output.table(COLUMNS, [_row(request) for request in found])


def _wanted(
    statuses: Sequence[str],
    template: str | None,
    mode: str | None,
    labels: Sequence[str],
    since: datetime | None,
    until: datetime | None,
) -> dict[str, Any]:
    """As `Client.list` takes it."""
    asked = {
        "status": _statuses(statuses),
        "template": template,
        "mode": mode,
        "labels": labels_of(labels),
        "created_after": since,
        "created_before": until,
    }
    return {name: value for name, value in asked.items() if value}


def _statuses(given: Sequence[str]) -> list[str]:
    """`-s queued,running -s failed`; `open` stands for all open ones, British spelling is understood."""
    names = [name.strip() for part in given for name in part.split(",") if name.strip()]
    names = ["canceled" if name == "cancelled" else name for name in names]
    return [one for name in names for one in (OPEN if name == "open" else (name,))]


def _watch(session: Session, client: Client, wanted: dict[str, Any], limit: int) -> None:
    """Until Ctrl-C. A service that is away for a while is waited for."""
    said: dict[str, object] = {}
    outage = Outage(lambda text: output.say(session, text))
    while True:
        try:
            found = client.list(limit=min(limit, PAGE), **wanted).data
            outage.over()
        except Unavailable as error:
            outage.begun(error)
            found = ()
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
    return (request.id, request.status, request.template, share_done(request), request.created_at, _note(request))


def _note(request: Request) -> str | None:
    if request.error is not None:
        return f"{request.error.code}: {request.error.message or ''}"
    return None if request.is_terminal else request.waiting or request.phase
