"""`muster get`: all that is known of one request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import completing, output
from orchestrator.cli.output import Cell
from orchestrator.cli.session import Session, common, pass_session
from orchestrator.cli.text import duration

if TYPE_CHECKING:
    from orchestrator.client import Request


@click.command(no_args_is_help=True)
@click.argument("request_id", metavar="ID", shell_complete=completing.requests)
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    show_default=True,
    help="In what form.",
)
@common
@pass_session
def get(session: Session, request_id: str, form: str) -> None:
    """Show a request: where it is, why, and what it gave.

    In a pipe: TAB-separated names and values. --json is -o json.

    \b
    Examples:
      muster get req_01j...
      muster get req_01j... -o yaml
      muster get req_01j... --json | jq .result
    """
    with session.connect() as client:
        request = client.get(request_id)
    match "json" if session.json else form:
        case "json":
            output.document(request.raw)
        case "yaml":
            output.lines(output.yaml_text(request.raw))
        case _:
            output.fields(_described(request))


def share_done(request: Request) -> str | None:
    """`56%`."""
    if request.succeeded:
        return "100%"
    fraction = request.progress.fraction if request.progress else None
    return None if fraction is None else f"{int(fraction * 100)}%"


def _described(request: Request) -> list[tuple[str, Cell]]:
    placement, error = request.placement, request.error
    return [
        ("id", request.id),
        ("status", request.status),
        ("template", f"{request.template} v{request.template_version}"),
        ("mode", request.mode),
        ("phase", request.phase),
        ("waiting", request.waiting),
        ("done", share_done(request)),
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
