"""What the options of one invocation said, and the options that every command has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from orchestrator.cli.text import parse_duration, parse_moment

if TYPE_CHECKING:
    from orchestrator.client import Client

    DurationType = click.ParamType[timedelta]
    MomentType = click.ParamType[datetime]
else:
    DurationType = MomentType = click.ParamType

Command = TypeVar("Command", bound=Callable[..., Any])
REFUSAL = "a token on the command line can be read by everybody on this machine (`ps`): set MUSTER_TOKEN instead"


@dataclass
class Session:
    """One invocation of `muster`."""

    url: str | None = None
    json: bool = False
    quiet: bool = False

    def connect(self) -> Client:
        from orchestrator.client import Client

        return Client.from_env(self.url)


pass_session = click.make_pass_decorator(Session, ensure=True)


WHOLE = 400
"""Characters of a first sentence in a list of commands: all of it, wrapped."""


class Commands(click.Group):
    """A group that tells of each command in a whole sentence."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            names = self.list_commands(ctx)
            formatter.write_dl([(name, self.commands[name].get_short_help_str(WHOLE)) for name in names])


def common(command: Command) -> Command:
    """The options of every command: --json, --url, -q."""
    for option in (_json, _url, _quiet, _token):
        command = option(command)
    return command


class Duration(DurationType):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Moment(MomentType):
    """A point in time: so long ago, or RFC 3339."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_moment(value, datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def store(context: click.Context, _: click.Parameter, value: Any) -> Any:
        if value not in (None, False):
            setattr(context.ensure_object(Session), name, value)
        return value

    return store


def _refuse(_context: click.Context, _parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        raise click.UsageError(REFUSAL)


_json = click.option(
    "--json", is_flag=True, is_eager=True, expose_value=False, callback=_set("json"), help="Answer in JSON."
)
_url = click.option(
    "--url", metavar="URL", expose_value=False, callback=_set("url"), help="The service; default: MUSTER_URL, or local."
)
_quiet = click.option(
    "-q", "--quiet", is_flag=True, expose_value=False, callback=_set("quiet"), help="No words for people, only errors."
)
_token = click.option("--token", is_eager=True, hidden=True, expose_value=False, callback=_refuse)
