"""`muster download`: outputs to files, complete or not at all, under names that cannot hurt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import output
from orchestrator.cli.completing import requests
from orchestrator.cli.session import Session, common, pass_session
from orchestrator.cli.text import size
from orchestrator.errors import NotFound

if TYPE_CHECKING:
    from orchestrator.client import Client, Output


@click.command(no_args_is_help=True)
@click.argument("request_id", metavar="ID", shell_complete=requests)
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path(),
    metavar="DIR", help="Folder to save into; default: this one.",
)  # fmt: skip
@click.option("--name", "names", multiple=True, help="Only this output; may be given several times.")
@common
@pass_session
def download(session: Session, request_id: str, folder: Path, names: Sequence[str]) -> None:
    """Save the outputs of a request; print where.

    Size and sha256 are checked, and a file appears only when it is complete. An older file of the same name is
    replaced.

    \b
    Examples:
      muster download req_01j... -o pictures
      muster download req_01j... --name digit.gif
    """
    with session.connect() as client:
        paths = []
        for path in save_outputs(client, request_id, folder, names):
            paths.append(path)
            if not session.json:
                output.line(str(path))
                output.say(session, f"  {size(path.stat().st_size)}")
    if session.json:
        output.listing({"path": str(path), "bytes": path.stat().st_size} for path in paths)
    elif not paths:
        output.say(session, f"{request_id} has no outputs")


def save_outputs(client: Client, request_id: str, folder: Path, names: Sequence[str] = ()) -> Iterator[Path]:
    """Saves the outputs named, or all, and yields each path once it is complete."""
    from orchestrator.client.saving import safe_name

    outputs = client.outputs(request_id)
    taken: set[str] = set()
    for one in _chosen(request_id, outputs, names):
        name = free_name(safe_name(one.name), taken)
        yield client.save_output(request_id, one, folder / name)


def _chosen(request_id: str, outputs: Sequence[Output], names: Sequence[str]) -> Sequence[Output]:
    missing = sorted(set(names) - {one.name for one in outputs})
    if missing:
        known = ", ".join(one.name for one in outputs) or "none"
        raise NotFound(f"{request_id} has no output {missing[0]!r}; it has: {known}")
    return [one for one in outputs if not names or one.name in names]


def free_name(name: str, taken: set[str]) -> str:
    """Takes a name that is not taken: two outputs whose names became the same keep apart, `a.png`, `a-2.png`."""
    stem, dot, suffix = name.rpartition(".")
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{stem}-{number}.{suffix}" if dot else f"{name}-{number}"
    taken.add(free)
    return free
