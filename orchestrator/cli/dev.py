"""`muster dev`: one gang on this machine, without a service; and whether it answers warm as it does fresh."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from orchestrator.cli import output
from orchestrator.cli.dev_desk import Gang
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.inputs import gather
from orchestrator.cli.introspect import describe
from orchestrator.cli.parity import Answer, compare
from orchestrator.cli.session import Session, common, pass_session
from orchestrator.cli.template_files import absolute, read_template
from orchestrator.domain.template import Template

COLUMNS = ("WHAT", "VERDICT", "HOW")


@click.command(no_args_is_help=True)
@click.argument("target", metavar="TEMPLATE|HANDLER|SCRIPT")
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="One input; KEY=@FILE reads a file.")
@click.option("--input-file", type=click.Path(path_type=Path), metavar="FILE", help="The whole input, a JSON object.")
@click.option("-a", "--arg", "args", multiple=True, metavar="KEY=VALUE", help="One gang-level argument.")
@click.option("--ranks", type=click.IntRange(1, 64), help="Default: as many as the template's gang has.")
@click.option("--parity", is_flag=True, help="Compare a warm answer with that of a fresh gang.")
@click.option("--tolerance", type=click.FloatRange(0), default=0.0, show_default=True, help="Between two numbers.")
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Where outputs go; default: a folder that is removed.",
)  # fmt: skip
@common
@pass_session
def dev(
    session: Session,
    target: str,
    pairs: Sequence[str],
    input_file: Path | None,
    args: Sequence[str],
    ranks: int | None,
    parity: bool,
    tolerance: float,
    folder: Path | None,
) -> None:
    """Run one request here, on a gang of its own, without a service.

    What to run: a template (a YAML file, or a shipped name), a handler (module:Class or ./file.py:Class) or a script.
    The gang's output goes to stderr, the result to stdout. With --parity the request runs on a gang that has served it
    before, and on a fresh gang; results and outputs are compared. Fix all seeds, or they differ rightly. Exit code 1
    if the request fails or the two differ.

    \b
    Examples:
      muster dev digits -i digit=3 -o pictures
      muster dev ./model.py:Painter -a size=14b -i prompt='a fox' --ranks 2
      muster dev generate.py -i prompt='a fox' -i base_seed=1 --parity
    """
    described = _template(target, args)
    given = gather(described.input, pairs, file=input_file)
    config, world = _config(described), ranks or described.world
    with tempfile.TemporaryDirectory(prefix="muster-dev-") as scratch:
        place = (folder or Path(scratch) / "outputs").absolute()
        if not parity:
            (answer,) = _answers(config, world, described.env, Path(scratch), given, [place])
            _tell(session, answer)
            return
        _, warm = _answers(config, world, described.env, Path(scratch), given, [place / "first", place / "warm"])
        (fresh,) = _answers(config, world, described.env, Path(scratch), given, [place / "fresh"])
        _judge(session, warm, fresh, tolerance)


def _template(target: str, args: Sequence[str]) -> Template:
    document = _document(target)
    given = gather(None, args)
    try:
        return Template.model_validate({**document, "args": {**(document.get("args") or {}), **given}})
    except ValidationError as error:
        raise click.UsageError(f"{target} cannot be run: {error.errors()[0]['msg']}") from None


def _document(target: str) -> dict[str, Any]:
    if target.endswith(".py"):
        found = describe(str(Path(target).resolve()))
        return {"name": "dev", "script": found["script"], "input": found["input"], "workdir": str(Path.cwd())}
    if ":" in target:
        return absolute({"name": "dev", "handler": target, "workdir": str(Path.cwd())}, Path.cwd())
    return read_template(target)


def _config(template: Template) -> dict[str, Any]:
    return {
        "template": template.name,
        "version": 1,
        "mode": "serve",
        "handler": template.handler,
        "args": template.handler_args,
        "workdir": template.workdir,
        "data_backend": template.data_backend,
        "data_timeout_s": template.limits.data_timeout_s,
    }


def _answers(
    config: dict[str, Any],
    ranks: int,
    env: Mapping[str, str],
    scratch: Path,
    given: Mapping[str, Any],
    places: Sequence[Path],
) -> list[Answer]:
    """Of one gang: the same request once per place."""
    with Gang(config, ranks, scratch / "ranks", env) as gang:
        return [Answer.of(gang.ask(given, place), place) for place in places]


def _tell(session: Session, answer: Answer) -> None:
    if not answer.succeeded:
        output.complain(f"failed: {answer.why}")
        raise click.exceptions.Exit(ExitCode.FAILED)
    output.document(answer.result)
    for path in answer.files.values():
        output.say(session, f"saved {path}")


def _judge(session: Session, warm: Answer, fresh: Answer, tolerance: float) -> None:
    for name, answer in (("warm", warm), ("fresh", fresh)):
        if not answer.succeeded:
            output.complain(f"the {name} request failed: {answer.why}")
            raise click.exceptions.Exit(ExitCode.FAILED)
    verdicts = compare(warm, fresh, tolerance)
    if session.json:
        output.listing({"what": one.what, "equal": one.equal, "how": one.how} for one in verdicts)
    else:
        output.table(COLUMNS, [(one.what, "equal" if one.equal else "DIFFERENT", one.how) for one in verdicts])
    if not all(one.equal for one in verdicts):
        raise click.exceptions.Exit(ExitCode.FAILED)
