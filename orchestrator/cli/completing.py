"""What the shell offers after TAB: IDs and names as the service knows them now.

A completion must be quick and may never speak: it asks once, for half a second, and offers nothing if that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from orchestrator.cli.session import Session
from orchestrator.errors import MusterError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from orchestrator.client import Batch, Client, Gang, Request

    Ask = Callable[[Client], Iterable[CompletionItem]]

PATIENCE = timedelta(seconds=0.5)
MOST = 50


def requests(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Requests, newest first, with their status and template."""
    return _asked(context, begun, lambda client: map(_request, client.list(limit=MOST).data))


def open_requests(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Requests that are not over."""
    still = ("queued", "assigned", "running", "canceling")
    return _asked(context, begun, lambda client: map(_request, client.list(status=still, limit=MOST).data))


def gangs(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    return _asked(context, begun, lambda client: map(_gang, client.gangs()))


def batches(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The newest ones."""
    return _asked(context, begun, lambda client: map(_batch, client.batches.list(limit=MOST).data))


def templates(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of templates, which are the names of their pools too."""
    return _asked(context, begun, lambda client: (_item(one.name, one.handler) for one in client.templates()))


def tokens(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    return _asked(context, begun, lambda client: (_item(one.id, one.name) for one in client.tokens()))


def schedules(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of schedules."""
    return _asked(context, begun, lambda client: (_item(one.name, one.cron) for one in client.schedules.list()))


def webhooks(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The tenant's endpoints."""
    return _asked(context, begun, lambda client: (_item(one.id, one.url) for one in client.webhooks.list()))


def explainable(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Whatever can be explained: open requests first."""
    kinds = (open_requests, gangs, templates) if not begun.startswith("req_") else (requests,)
    return [item for kind in kinds for item in kind(context, parameter, begun)]


def files_and_shipped(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Templates that come with Muster, then files."""
    from click.shell_completion import CompletionItem

    from orchestrator.cli.template_files import shipped_names

    return [*(CompletionItem(one) for one in shipped_names() if one.startswith(begun)), CompletionItem(begun, "file")]


def _asked(context: click.Context, begun: str, ask: Ask) -> list[CompletionItem]:
    from orchestrator.client import Client

    session = context.find_object(Session) or Session()
    try:
        with Client.from_env(session.url, timeout=PATIENCE, retries=0) as client:
            return [item for item in ask(client) if item.value.startswith(begun)]
    except (MusterError, OSError):
        return []


def _request(one: Request) -> CompletionItem:
    return _item(one.id, f"{one.status}, {one.template}")


def _gang(one: Gang) -> CompletionItem:
    return _item(one.id, f"{one.state}, {one.template}")


def _batch(one: Batch) -> CompletionItem:
    return _item(one.id, f"{one.status}, {one.counts.over}/{one.counts.total}, {one.template}")


def _item(value: str, said: str | None) -> CompletionItem:
    from click.shell_completion import CompletionItem

    from orchestrator.cli.text import safe

    return CompletionItem(safe(value), help=safe(said or ""))
