"""`muster`: the commands together, and how any of them ends.

Start-up time matters: command modules import click and each other only; the client, rich and the service are imported
where they are used.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import takewhile

import click

from orchestrator.cli import output
from orchestrator.cli.again import retry, rm
from orchestrator.cli.batches import batch
from orchestrator.cli.cancel import cancel
from orchestrator.cli.completion import completion
from orchestrator.cli.dev import dev
from orchestrator.cli.doctor import doctor
from orchestrator.cli.download import download
from orchestrator.cli.events import events
from orchestrator.cli.exits import ExitCode, of_error
from orchestrator.cli.explain import explain
from orchestrator.cli.gangs import gang
from orchestrator.cli.get import get
from orchestrator.cli.kinds import meant
from orchestrator.cli.logs import logs
from orchestrator.cli.ls import ls
from orchestrator.cli.open import open_
from orchestrator.cli.pools import pool
from orchestrator.cli.run import run as run_script
from orchestrator.cli.schedules import schedule
from orchestrator.cli.service import migrate, serve, up
from orchestrator.cli.session import WHOLE, Session, common
from orchestrator.cli.submit import submit
from orchestrator.cli.templates import template
from orchestrator.cli.tenants import tenant
from orchestrator.cli.tokens import token
from orchestrator.cli.validate import validate
from orchestrator.cli.wait import wait
from orchestrator.cli.webhooks import webhook
from orchestrator.errors import MusterError, NotFound

SECTIONS = {
    "Requests": (submit, validate, run_script, ls, get, explain, wait, logs, events, cancel, retry, download, rm),
    "Many at once, or on time": (batch, schedule),
    "What runs them": (template, pool, gang, dev),
    "The service": (up, open_, doctor, token, tenant, webhook, completion, serve, migrate),
}


class Sections(click.Group):
    """A group whose help lists its commands by purpose."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(str(one.name), one.get_short_help_str(WHOLE)) for one in commands])

    def invoke(self, ctx: click.Context) -> object:
        """Before click does: it would end with 1 when the reader of our output went away."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _close_quietly()
            raise click.exceptions.Exit(ExitCode.CLOSED) from None


@click.group(cls=Sections, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="muster-orchestrator", message="muster %(version)s")
@common
def muster() -> None:
    """Run a multi-machine, multi-GPU PyTorch script as a service.

    \b
    Start on one machine:
      muster up                                  # in one terminal
      muster template apply digits               # in another
      muster submit digits -i digit=3 -o pictures

    Elsewhere: set MUSTER_URL and MUSTER_TOKEN. Data goes to stdout, words to stderr; --json on every command.

    \b
    Exit codes: 0 ok, 1 request failed, 2 usage, 3 machines failed, 4 canceled, 5 expired, 6 not found,
    7 not allowed, 8 service does not answer, 9 still running, 10 batch in part, 130 Ctrl-C, 141 output closed.
    """


for _commands in SECTIONS.values():
    for _command in _commands:
        muster.add_command(_command)


def main() -> None:
    """The entry point."""
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:  # a second one, while the first was answered
        os._exit(ExitCode.INTERRUPTED)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; returns the exit code and never raises."""
    _open_streams()
    session = Session(json="--json" in _ours(arguments))
    try:
        code = _run(arguments, session)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _close_quietly()
        return ExitCode.CLOSED
    except OSError as error:
        _close_quietly()
        output.complain(f"muster: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        return ExitCode.FAILED


def _ours(arguments: Sequence[str]) -> Sequence[str]:
    """Without what `muster run` hands on to a script."""
    if "run" not in arguments[:1]:
        return arguments
    return [*takewhile(lambda one: not one.endswith(".py"), arguments)]


def _run(arguments: Sequence[str], session: Session) -> int:
    try:
        result = muster.main([*arguments], prog_name="muster", standalone_mode=False, obj=session)
        return result if isinstance(result, int) else ExitCode.OK
    except click.exceptions.Abort:
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        _tell_usage(error, session)
        return ExitCode.USAGE
    except MusterError as error:
        _tell_error(error, session, arguments)
        return of_error(error)
    except OSError:
        raise  # of stdout, or of a file that was named: `run` tells
    except Exception:
        traceback.print_exc()
        output.complain("muster: this is a defect of muster itself; please report the lines above")
        return ExitCode.INFRA


def _tell_usage(error: click.ClickException, session: Session) -> None:
    if not session.json:
        shown = io.StringIO()
        error.show(shown)  # with the usage of the command; what a file or a name holds is made harmless
        output.complain(shown.getvalue().rstrip())
        return
    output.document({"type": "about:blank", "title": "Usage", "code": "usage", "detail": error.format_message()})
    output.complain(f"muster: {error.format_message()}")


def _tell_error(error: MusterError, session: Session, arguments: Sequence[str]) -> None:
    if session.json:
        output.document(_problem(error))
    output.complain(f"muster: {error.message}" + _remedy(error, arguments))


def _remedy(error: MusterError, arguments: Sequence[str]) -> str:
    """On a line of its own, if the service refused with a code that is known."""
    from orchestrator.client import problem_of
    from orchestrator.domain.advice import CALLS

    told = CALLS.get(error.code) if problem_of(error) else None
    if isinstance(error, NotFound):
        told = meant(arguments) or (None if "`" in error.message else told)  # which names the command itself
    return f"\n  {told}" if told else ""


def _problem(error: MusterError) -> object:
    from orchestrator.client import problem_of

    return problem_of(error) or {
        "type": "about:blank",
        "title": type(error).__name__,
        "code": error.code,
        "detail": error.message,
    }


def _open_streams() -> None:
    """Text that the locale cannot say is escaped, never an error; a stream that the caller closed goes nowhere."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - lives as long as we do
    if isinstance(sys.stdout, io.TextIOWrapper) and isinstance(sys.stdout.buffer, io.RawIOBase):
        # PYTHONUNBUFFERED: such a stream loses the rest of a write that the reader cut short, without an error
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(sys.stdout.buffer), sys.stdout.encoding, write_through=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _close_quietly() -> None:
    """Python flushes stdout once more at exit: into nothing, so that it does not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
