"""`muster dev`: one gang on this machine, without a service; and whether it answers warm as it does fresh."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import output
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.session import Session, common, pass_session

if TYPE_CHECKING:
    from orchestrator.cli.parity import Answer

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
    from orchestrator.cli.trial import Trial

    with tempfile.TemporaryDirectory(prefix="muster-dev-") as scratch:
        trial = Trial(target, args, pairs, input_file, ranks=ranks, scratch=Path(scratch))
        place = (folder or Path(scratch) / "outputs").absolute()
        if parity:
            _judge(session, *trial.warm_and_fresh(place), tolerance)
        else:
            _tell(session, trial.answer(place))


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
    from orchestrator.cli.parity import compare

    verdicts = compare(warm, fresh, tolerance)
    if session.json:
        output.listing({"what": one.what, "equal": one.equal, "how": one.how} for one in verdicts)
    else:
        output.table(COLUMNS, [(one.what, "equal" if one.equal else "DIFFERENT", one.how) for one in verdicts])
    if not all(one.equal for one in verdicts):
        raise click.exceptions.Exit(ExitCode.FAILED)
