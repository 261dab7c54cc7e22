"""The built-in handler of a template with `script:`. One request is one run of the script's main part.

`ctx.args` is `{"script": what the template says, "args": gang-level values}`; the input holds the other arguments.
"""

import traceback
from pathlib import Path
from typing import Any

from inference.context import Context
from inference.environment import ConfigurationError
from inference.faults import Canceled, InvalidInput, TimedOut
from inference.handler import Handler
from inference.script import active
from inference.script.arguments import Arguments, BadArgument, UnsupportedParser, catch_parser, keeping_messages
from inference.script.bars import Bars
from inference.script.fresh import Fresh
from inference.script.keep import Keep, install
from inference.script.source import Source, find
from inference.script.world import World
from inference.vote import Say

OF_ARGUMENTS = (AssertionError, ValueError, TypeError)  # what scripts check their arguments with


class ScriptHandler(Handler[dict[str, Any]]):
    def setup(self, ctx: Context) -> None:
        script = ctx.args["script"]
        self.values: dict[str, Any] = ctx.args.get("args") or {}
        self.outputs: dict[str, str] = script.get("outputs") or {}
        self.intact = True
        self.keep = Keep()
        self.world = World(ctx._groups)
        self.world.install()
        self.source = Source(find(script["path"]))
        folder = Path(script.get("workdir") or self.source.path.parent)
        fresh = Fresh(folder)
        with self.world.inside(), fresh.process([str(self.source.path)]):
            self.source.load()
            install(script.get("memoise") or (), script.get("once") or ())
            self.arguments = self._read_arguments()
        Bars(self.source.path.parent, script.get("tqdm") or (), self.world).install()
        self.fresh = Fresh(folder)

    def run(self, ctx: Context, input: dict[str, Any]) -> dict[str, Any] | None:
        words = self._command_line(ctx, input)
        if not ctx._control.vote(Say.DONE if self.intact else Say.FAILED).all_done:
            self.keep.drop()
        self.intact = True
        self.keep.begin()
        active.run = run = active.Run(context=ctx, keep=self.keep)
        try:
            with self.world.inside(), self.fresh.process(words, _trace(ctx)), keeping_messages():
                self._run_main()
        except (InvalidInput, Canceled, TimedOut):
            raise  # before anything began, or between two steps: the models are as they were
        except BaseException:
            self.intact = not (self.keep.built or self.keep.reused)
            raise
        finally:
            active.run = None
        ctx.metric("models_built", self.keep.built)
        ctx.metric("models_reused", self.keep.reused)
        return run.result

    def _run_main(self) -> None:
        try:
            self.source.run()
        except BadArgument as error:
            raise InvalidInput(f"{self.source.path.name}: {error.message}") from None
        except SystemExit as error:
            if error.code not in (None, 0):
                raise self._refusal(error, f"exited with {error.code}") from None
        except OF_ARGUMENTS as error:
            raise self._refusal(error, f"{type(error).__name__}: {error}") from error

    def _refusal(self, error: BaseException, what: str) -> BaseException:
        """Before the script has touched a group or a model, it can only have looked at its arguments."""
        if self.world.touched or self.keep.built or self.keep.reused:
            return RuntimeError(f"the script {what}") if isinstance(error, SystemExit) else error
        traceback.print_exception(error)
        return InvalidInput(f"{self.source.path.name}: {what}")

    def _command_line(self, ctx: Context, input: dict[str, Any]) -> list[str]:
        paths = {name: str(ctx.output(output)) for name, output in self.outputs.items()}
        try:
            return [str(self.source.path), *self.arguments.command_line({**self.values, **input, **paths})]
        except ValueError as error:
            raise InvalidInput(str(error)) from None

    def _read_arguments(self) -> Arguments:
        try:
            arguments = Arguments.of(catch_parser(self.source.run))
            arguments.command_line({**self.values, **dict.fromkeys(self.outputs, "")})
        except (UnsupportedParser, ValueError) as error:
            raise ConfigurationError(f"{self.source.path.name}: {error}") from None
        return arguments


def _trace(ctx: Context) -> dict[str, str]:
    """Where in a trace the request is, as variables: what instrumented scripts and their children look for."""
    said = {"TRACEPARENT": ctx.traceparent, "TRACESTATE": ctx.tracestate}
    return {name: value for name, value in said.items() if value}
