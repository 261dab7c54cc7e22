"""`muster validate`: what a submit would say, and nothing recorded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from orchestrator.cli import completing, output
from orchestrator.cli.orders import Given, Terms, takes_input, takes_terms
from orchestrator.cli.output import Cell
from orchestrator.cli.session import Session, common, pass_session
from orchestrator.cli.text import duration

if TYPE_CHECKING:
    from orchestrator.client import Validation


@click.command(no_args_is_help=True)
@click.argument("template", shell_complete=completing.templates)
@takes_input
@takes_terms
@common
@pass_session
def validate(session: Session, template: str, given: Given, terms: Terms) -> None:
    """Check a request of TEMPLATE as `muster submit` would, and record nothing.

    Says the input with its defaults, the path that the request would take and why, and when it should start. Files
    that the input names are sent, for they are checked too. Exit code 2 if it would be refused.
    In a pipe: TAB-separated names and values.

    \b
    Examples:
      muster validate digits -i digit=3
      muster validate wan -i prompt='a fox' --mode warm --json
    """
    asked = {name: value for name, value in terms.told().items() if name not in ("idempotency_key", "webhook")}
    with session.connect() as client:
        found = client.validate(template, given.gather(session, client, template), **asked)
    if session.json:
        output.document(found.raw)
    else:
        output.fields(_described(found))


def _described(found: Validation) -> list[tuple[str, Cell]]:
    path = found.placement
    return [
        ("template", f"{found.template} v{found.template_version}"),
        ("mode", found.mode),
        ("input", json.dumps(found.input, ensure_ascii=False)),
        ("placement", f"{path.kind}: {path.reason or ''}" if path else None),
        ("starts in", None if found.starts_in_s is None else duration(found.starts_in_s)),
        ("timeout", None if found.timeout_s is None else duration(found.timeout_s)),
        ("attempts", found.max_attempts),
    ]
