"""What a request is asked with: its input and its terms, as options that several commands share."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import output
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.inputs import gather
from orchestrator.cli.sending import send
from orchestrator.cli.session import Command, Duration, Session
from orchestrator.errors import Forbidden, Unavailable

if TYPE_CHECKING:
    from orchestrator.client import Client


@dataclass(frozen=True, kw_only=True)
class Given:
    """The input as it was given."""

    pairs: Sequence[str] = ()
    input_file: Path | None = None
    stdin: bool = False

    def __post_init__(self) -> None:
        if self.input_file is not None and self.stdin:
            raise click.UsageError("give --input-file or --stdin, not both")

    def gather(self, session: Session, client: Client, template: str) -> dict[str, Any]:
        """Typed by the template's schema; files that it names are sent."""
        return gather(
            _schema(client, template) if self.pairs else None,
            self.pairs,
            file=self.input_file,
            stdin=self.stdin,
            send=lambda path: send(session, client, path),
        )


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How the request is to be run, and how to find it again."""

    mode: str = "auto"
    priority: int = 0
    timeout: timedelta | None = None
    expire_queued: timedelta | None = None
    labels: Sequence[str] = ()
    webhook: str | None = None
    idempotency_key: str | None = None
    key: str = field(init=False)
    """The given one, or one of our own: a repeated try records nothing twice."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.idempotency_key or str(uuid.uuid4()))

    def told(self) -> dict[str, Any]:
        """As `Client.submit` takes them."""
        return {
            "mode": self.mode,
            "priority": self.priority,
            "timeout": self.timeout,
            "expire_queued_after": self.expire_queued,
            "labels": labels_of(self.labels),
            "webhook": {"url": self.webhook} if self.webhook else None,
            "idempotency_key": self.key,
        }


@contextmanager
def asking(session: Session, key: str) -> Iterator[None]:
    """Around a call that records: when its answer does not come, or Ctrl-C, it says how to ask again safely."""
    try:
        yield
    except (Unavailable, KeyboardInterrupt) as error:
        output.say(session, f"It may or may not be recorded; to ask again safely add: --idempotency-key {key}")
        if isinstance(error, KeyboardInterrupt):
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
        raise


def no_empty_key(_context: click.Context, _parameter: click.Parameter, key: str | None) -> str | None:
    """A variable of a script that is not set must not make every call a new one."""
    if key is not None and not key.strip():
        raise click.BadParameter("it is empty: is a variable not set?")
    return key


def labels_of(pairs: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` each. Raises UsageError."""
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--label {pair!r}: write KEY=VALUE")
        labels[key] = value
    return labels


def takes_input(command: Command) -> Command:
    """The options of an input; the command gets them as `given`."""
    return gathered("given", Given, _INPUT)(command)


def takes_terms(command: Command) -> Command:
    """The options of `Terms`; the command gets them as `terms`."""
    return gathered("terms", Terms, _TERMS)(command)


def gathered(name: str, kind: Callable[..., Any], options: Sequence[Any]) -> Callable[[Command], Command]:
    """Several options as one argument of the command, of a dataclass."""
    names = [one.name for one in fields(kind) if one.init]  # type: ignore[arg-type]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def gathering(*args: Any, **given: Any) -> Any:
            values = {one: given.pop(one) for one in names}
            return command(*args, **given, **{name: kind(**values)})

        wrapped: Any = gathering
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return decorate


_INPUT = (
    click.option(
        "-i",
        "--input",
        "pairs",
        multiple=True,
        metavar="KEY=VALUE",
        help="One input; KEY=@FILE reads a file, or sends it where a file is wanted.",
    ),
    click.option(
        "--input-file", type=click.Path(path_type=Path), metavar="FILE", help="The whole input, a JSON object."
    ),
    click.option("--stdin", is_flag=True, help="The whole input, a JSON object, from stdin."),
)
_TERMS = (
    click.option(
        "--mode",
        type=click.Choice(["auto", "warm", "batch"]),
        default="auto",
        show_default=True,
        help="On a gang that is kept warm, one of its own, or whichever is sooner.",
    ),
    click.option("--priority", type=int, default=0, show_default=True, help="Higher goes first."),
    click.option("--timeout", type=Duration(), help="Fail it when it runs longer."),
    click.option("--expire-queued", type=Duration(), help="Give up when it has not started by then."),
    click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A mark to find it by."),
    click.option("--webhook", metavar="URL", help="Tell this URL how it ended (docs/webhooks.md)."),
    click.option(
        "--idempotency-key",
        metavar="KEY",
        callback=no_empty_key,
        help="The same key records one request; default: a random one.",
    ),
)


def _schema(client: Client, template: str) -> Any:
    try:
        return client.template(template).input
    except Forbidden:
        return None  # a token that may submit but not read: the service still checks the input
