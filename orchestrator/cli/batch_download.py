"""`muster batch download`: the outputs of a batch's items, a folder for each item.

May be asked for at any time and again: what is there already, whole, is left alone. Results are spooled, so that a
batch of any length costs a file, not memory.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import output
from orchestrator.cli.batch_verbs import BatchId
from orchestrator.cli.download import free_name
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.session import Session, common, pass_session
from orchestrator.cli.text import size

if TYPE_CHECKING:
    from orchestrator.client import Client, Output


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An output of an item, and where it belongs."""

    custom_id: str
    request: str
    output: Output
    path: Path

    def is_there(self) -> bool:
        """Whole, by size and sha256. What has no sha256 is fetched again."""
        if not self.path.is_file() or self.path.stat().st_size != self.output.bytes:
            return False
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.output.sha256

    def told(self) -> dict[str, Any]:
        where = {"custom_id": self.custom_id, "request": self.request, "name": self.output.name}
        return {**where, "path": str(self.path), "bytes": self.output.bytes}


@click.command(no_args_is_help=True)
@BatchId
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path(),
    metavar="DIR", help="Folder to save into; default: this one.",
)  # fmt: skip
@click.option("--name", "names", multiple=True, help="Only outputs of this name; may be given several times.")
@common
@pass_session
def download(session: Session, batch_id: str, folder: Path, names: Sequence[str]) -> None:
    """Save the outputs of all items that are over as DIR/CUSTOM_ID/NAME; print where.

    Size and sha256 are checked, and a file appears only when it is complete. What is there already is not fetched
    again: repeat the command while the batch runs, or after Ctrl-C, for the rest.

    \b
    Examples:
      muster batch download bat_01j... -o pictures
      muster batch download bat_01j... -o pictures --name digit.png
    """
    tell: Callable[[Path], None] = (lambda _: None) if session.json else (lambda path: output.line(str(path)))
    with session.connect() as client:
        saved = save_all(session, client, batch_id, folder, tell, names)
    if session.json:
        output.listing(one.told() for one in saved)


def save_all(
    session: Session,
    client: Client,
    batch_id: str,
    folder: Path,
    tell: Callable[[Path], None],
    names: Sequence[str] = (),
) -> Sequence[Kept]:
    """All outputs, saved; `tell` gets each path when its file is there. How many came is said at the end."""
    saved: list[Kept] = []
    fetched = 0
    try:
        for one, came in _saved(client, batch_id, folder, names):
            saved.append(one)
            fetched += came
            tell(one.path)
    except KeyboardInterrupt:
        output.say(session, f"\nStopped; {_files(len(saved))} are there whole. The same command fetches the rest.")
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
    total = size(sum(one.output.bytes or 0 for one in saved))
    output.say(session, f"{_files(len(saved))} of {batch_id}, {total}, {fetched} of them fetched now")
    return saved


def _files(number: int) -> str:
    return f"{number} file{'' if number == 1 else 's'}"


def _saved(client: Client, batch_id: str, folder: Path, names: Sequence[str]) -> Iterator[tuple[Kept, bool]]:
    with tempfile.TemporaryFile(prefix="muster-") as lines:
        with client.batches.results(batch_id) as chunks:
            lines.writelines(chunks)
        lines.seek(0)
        for one in _outputs(lines, folder, names):
            missing = not one.is_there()
            if missing:
                client.save_output(one.request, one.output, one.path)
            yield one, missing


def _outputs(lines: Iterable[bytes], folder: Path, names: Sequence[str]) -> Iterator[Kept]:
    """Those that have not expired. Two items whose names became the same keep apart."""
    from orchestrator.client import Output
    from orchestrator.client.saving import safe_name

    folders: set[str] = set()
    for line in lines:
        item = json.loads(line)
        kept = [Output.read(one) for one in item["outputs"] if not one.get("expired")]
        if not kept:
            continue
        own = free_name(safe_name(item["custom_id"]), folders)
        taken: set[str] = set()
        for one in kept:
            if names and one.name not in names:
                continue
            name = free_name(safe_name(one.name), taken)
            yield Kept(custom_id=item["custom_id"], request=item["request"], output=one, path=folder / own / name)
