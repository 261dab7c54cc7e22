"""`muster run`: a script and its arguments, as one would give them to torchrun, become a template and a request."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import output
from orchestrator.cli.download import save_outputs
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.introspect import describe
from orchestrator.cli.session import Session, common, pass_session
from orchestrator.cli.watching import stay, tell

if TYPE_CHECKING:
    from orchestrator.client import Client

COLUMNS = ("ARGUMENT", "LEVEL", "VALUE", "WHY")


@click.command(
    no_args_is_help=True, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.option("--nodes", type=click.IntRange(1, 1024), default=1, show_default=True, help="Machines of the gang.")
@click.option("--ranks", type=click.IntRange(1, 64), default=1, show_default=True, help="Ranks on each of them.")
@click.option("--name", metavar="NAME", help="Of the template; default: the script's file name.")
@click.option("--dry-run", is_flag=True, help="Say which argument belongs to the gang and which to the request; stop.")
@click.option("--detach", is_flag=True, help="Record the request, print its ID and leave.")
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Where to download to; default: where the script was told to save.",
)  # fmt: skip
@common
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("words", metavar="[ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED)
@pass_session
def run(
    session: Session,
    nodes: int,
    ranks: int,
    name: str | None,
    dry_run: bool,
    detach: bool,
    folder: Path | None,
    script: Path,
    words: Sequence[str],
) -> None:
    """Run an unmodified SCRIPT on a gang that stays warm for the next request.

    Arguments that shape the model belong to the gang: others than before start a new one. All others belong to this
    request. Options of muster come before SCRIPT.

    \b
    Examples:
      muster run --ranks 4 generate.py --ulysses_size 4 --dit_fsdp --prompt "a seven" --save_file seven.gif
      muster run --dry-run generate.py --prompt "a seven"
    """
    found = describe(str(script.resolve()), words)
    gang, given, places = _split(found)
    template = _template(name or _name_of(script), found, gang, nodes, ranks)
    if dry_run:
        _show(session, found, template, given)
        return
    with session.connect() as client:
        client.apply_template(template)
        request = client.submit(template["name"], given, idempotency_key=str(uuid.uuid4()))
        if not session.json or detach:
            output.line(request.id) if not session.json else output.document(request.raw)
        if not detach:
            _see_through(session, client, request.id, folder, places)


def _split(found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Path]]:
    """Values of the gang, values of the request, and where each output was to be saved."""
    levels = {one["name"]: one["level"] for one in found["arguments"]}
    given = found["given"]
    of = {level: {name: given[name] for name in given if levels[name] == level} for level in ("gang", "request")}
    outputs = found["script"]["outputs"]
    return of["gang"], of["request"], {outputs[name]: Path(str(given[name])) for name in outputs if name in given}


def _template(name: str, found: Mapping[str, Any], gang: dict[str, Any], nodes: int, ranks: int) -> dict[str, Any]:
    return {
        "name": name,
        "script": found["script"],
        "workdir": str(Path.cwd()),
        "args": gang,
        "input": found["input"],
        "nodes": nodes,
        "ranks_per_node": ranks,
    }


def _name_of(script: Path) -> str:
    """The file's name, or its folder's where that says more, as a template may be called."""
    stem = script.resolve().stem
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-")
    return plain if plain[:1].isalpha() else f"script-{plain}"[:40].strip("-")


def _show(session: Session, found: Mapping[str, Any], template: dict[str, Any], given: dict[str, Any]) -> None:
    if session.json:
        output.document({"template": template, "input": given, "arguments": found["arguments"]})
        return
    values = found["given"]
    rows = [(one["name"], one["level"], str(values.get(one["name"], "")), one["why"]) for one in found["arguments"]]
    output.table(COLUMNS, rows)
    script = found["script"]
    output.say(session, f"built once per rank: {', '.join(script['memoise']) or 'nothing that was found'}")
    output.say(session, f"run once per rank:   {', '.join(script['once']) or 'nothing that was found'}")
    output.say(session, f"published:           {', '.join(script['outputs'].values()) or 'nothing'}")


def _see_through(session: Session, client: Client, request: str, folder: Path | None, places: dict[str, Path]) -> None:
    ended = stay(session, client, request, timeout=None, follow=not session.json)
    code = tell(session, client, ended)
    if session.json:
        output.document(ended.raw)
    if code is ExitCode.OK:
        for path in _save(client, request, folder, places):
            output.say(session, f"saved {path}")
    raise click.exceptions.Exit(code)


def _save(client: Client, request: str, folder: Path | None, places: dict[str, Path]) -> list[Path]:
    if folder is not None or not places:
        return list(save_outputs(client, request, folder or Path()))
    saved = []
    for name, place in places.items():
        saved.append(client.download(request, name, place.parent, save_as=place.name))
    return saved
