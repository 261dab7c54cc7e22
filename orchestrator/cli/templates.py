"""`muster template`: how each kind of request is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from orchestrator.cli import output
from orchestrator.cli.completing import files_and_shipped, templates
from orchestrator.cli.removing import one_by_one
from orchestrator.cli.render import render
from orchestrator.cli.session import Commands, Session, common, pass_session

COLUMNS = ("NAME", "VERSION", "GANG", "HANDLER")


@click.group(cls=Commands)
def template() -> None:
    """Templates: how each kind of request is run.

    \b
    Examples:
      muster template apply digits                # one that comes with Muster
      muster template apply my-model.yaml         # or your own (docs/templates.md)
    """


template.add_command(render)


@template.command()
@common
@pass_session
def ls(session: Session) -> None:
    """List templates.

    In a pipe: TAB-separated name, version, gang (nodes x ranks), handler.

    \b
    Examples:
      muster template ls
      muster template ls --json | jq -r '.data[] | "\\(.name) v\\(.version)"'
    """
    with session.connect() as client:
        found = client.templates()
    if session.json:
        output.listing(one.raw for one in found)
    else:
        rows = [(one.name, one.version, f"{one.nodes or 1}x{one.ranks_per_node or 1}", one.handler) for one in found]
        output.table(COLUMNS, rows)


@template.command(no_args_is_help=True)
@click.argument("name", shell_complete=templates)
@common
@pass_session
def show(session: Session, name: str) -> None:
    """Print a template as YAML that `muster template apply` takes; with --json all that is known of it.

    \b
    Examples:
      muster template show digits > digits.yaml
    """
    with session.connect() as client:
        found = client.template(name)
    if session.json:
        output.document(found.raw)
    else:
        output.lines(output.yaml_text(found.spec or found.raw))


@template.command(no_args_is_help=True)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, shell_complete=files_and_shipped)
@common
@pass_session
def apply(session: Session, files: Sequence[str]) -> None:
    """Store templates; print name and version of each.

    FILE is YAML, or the name of a template that comes with Muster. The same content again keeps its version; other
    content becomes a new version, and requests on record keep theirs. A handler `./model.py:Class` is meant from the
    file's folder.

    \b
    Examples:
      muster template apply digits
      muster template apply my-model.yaml
    """
    from orchestrator.cli.template_files import read_template

    documents = [read_template(file) for file in files]
    with session.connect() as client:
        applied = [client.apply_template(document) for document in documents]
    if session.json:
        _print_applied([one.raw for one in applied])
    else:
        for one in applied:
            output.line(f"{one.name}\t{one.version}")


@template.command(no_args_is_help=True)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=templates)
@common
@pass_session
def rm(session: Session, names: Sequence[str]) -> None:
    """Remove templates; requests on record keep theirs.

    \b
    Examples:
      muster template rm digits
    """
    one_by_one(session, names, lambda client, name: client.remove_template(name), "removed", called="name")


def _print_applied(documents: list[Any]) -> None:
    if len(documents) == 1:
        output.document(documents[0])
    else:
        output.listing(documents)
