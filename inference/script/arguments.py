"""A script's argparse parser as data: a JSON Schema of its arguments, and a command line from JSON values.

The parser is caught by running the script until it parses. Does not import torch.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_TYPES: dict[Any, str] = {int: "integer", float: "number", str: "string", None: "string", bool: "boolean"}
_SWITCHES = (argparse._StoreTrueAction, argparse._StoreFalseAction, argparse.BooleanOptionalAction)
_SILENT = (argparse._HelpAction, argparse._VersionAction)


class UnsupportedParser(Exception):
    """A parser that no flat set of inputs describes."""


class BadArgument(SystemExit):
    """What argparse ends a script with, with its message kept."""

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message

    def __str__(self) -> str:
        return self.message


class _Caught(BaseException):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


@dataclass(frozen=True, kw_only=True)
class Argument:
    """`flag` is None for a positional argument."""

    name: str
    flag: str | None
    schema: dict[str, Any]
    required: bool
    action: argparse.Action

    def words(self, value: Any) -> list[str]:
        """On the command line."""
        if self.flag is None:
            return [_word(one) for one in (value if isinstance(value, list) else [value])]
        match self.action:
            case argparse.BooleanOptionalAction():
                return [self.flag if value else next(one for one in self.action.option_strings if "--no-" in one)]
            case argparse._StoreTrueAction():
                return [self.flag] if value else []
            case argparse._StoreFalseAction():
                return [] if value else [self.flag]
            case argparse._StoreConstAction():
                return [self.flag] if value == self.action.const else []
            case argparse._CountAction():
                return [self.flag] * int(value)
            case argparse._AppendAction():
                return [word for one in value for word in self._pair(one)]
            case _:
                return self._pair(value)

    def _pair(self, value: Any) -> list[str]:
        assert self.flag is not None
        if isinstance(value, list):
            return [self.flag, *map(_word, value)]
        if self.flag.startswith("--"):
            return [f"{self.flag}={_word(value)}"]  # one word: a value may begin with a dash
        return [self.flag, _word(value)]


@dataclass(frozen=True)
class Arguments:
    """All arguments of a script, in the parser's order."""

    all: tuple[Argument, ...]

    @classmethod
    def of(cls, parser: argparse.ArgumentParser | None) -> "Arguments":
        actions = parser._actions if parser is not None else []
        return cls(tuple(_argument(action) for action in actions if not isinstance(action, _SILENT)))

    def command_line(self, values: Mapping[str, Any]) -> list[str]:
        """The words for `values` by argument name. A value of None is left out."""
        known = {argument.name for argument in self.all}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"the script has no argument {', '.join(unknown)}")
        given = [one for one in self.all if values.get(one.name) is not None]
        flags = [word for one in given if one.flag is not None for word in one.words(values[one.name])]
        places = [word for one in given if one.flag is None for word in one.words(values[one.name])]
        return [*flags, *(["--", *places] if places else [])]

    def schema(self, leave_out: set[str]) -> dict[str, Any]:
        """Of a request's input."""
        shown = [one for one in self.all if one.name not in leave_out]
        required = [one.name for one in shown if one.required]
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {one.name: one.schema for one in shown},
            **({"required": required} if required else {}),
        }


def catch_parser(run: Callable[[], object]) -> argparse.ArgumentParser | None:
    """The parser with which `run` first parses, without letting it; None if it ends without parsing."""

    def catch(self: argparse.ArgumentParser, *_: Any, **__: Any) -> Any:
        raise _Caught(self)

    original = argparse.ArgumentParser.parse_known_args
    argparse.ArgumentParser.parse_known_args = catch  # type: ignore[method-assign]
    try:
        run()
    except _Caught as caught:
        return caught.parser
    finally:
        argparse.ArgumentParser.parse_known_args = original  # type: ignore[method-assign]
    return None


@contextmanager
def keeping_messages() -> Iterator[None]:
    """argparse prints what is wrong and exits with 2; here the exit also carries the message."""

    def complain(self: argparse.ArgumentParser, message: str) -> Any:
        self.print_usage()
        raise BadArgument(message)

    original = argparse.ArgumentParser.error
    argparse.ArgumentParser.error = complain  # type: ignore[method-assign]
    try:
        yield
    finally:
        argparse.ArgumentParser.error = original  # type: ignore[method-assign]


def parse_given(parser: argparse.ArgumentParser, words: list[str]) -> dict[str, Any]:
    """What `words` say, without defaults, as JSON values. Raises BadArgument."""
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    parser._defaults.clear()
    with keeping_messages():
        given = vars(parser.parse_args(words))
    return {name: _jsonable(value) for name, value in given.items()}


def _argument(action: argparse.Action) -> Argument:
    if isinstance(action, argparse._SubParsersAction):
        raise UnsupportedParser("the script has sub-commands: write a handler, or a script per command")
    flags = sorted(action.option_strings, key=lambda flag: not flag.startswith("--"))
    return Argument(
        name=action.dest,
        flag=flags[0] if flags else None,
        schema=_schema(action),
        required=bool(action.required) and action.nargs not in ("?", "*"),
        action=action,
    )


def _schema(action: argparse.Action) -> dict[str, Any]:
    schema: dict[str, Any] = _form(action)
    if action.help and action.help is not argparse.SUPPRESS:
        schema["description"] = action.help.replace("%%", "%")
    if action.default is not None and action.default is not argparse.SUPPRESS and _is_json(action.default):
        schema["default"] = action.default
    return schema


def _form(action: argparse.Action) -> dict[str, Any]:
    if isinstance(action, _SWITCHES):
        return {"type": "boolean"}
    if isinstance(action, argparse._CountAction):
        return {"type": "integer", "minimum": 0}
    if isinstance(action, argparse._StoreConstAction):
        return {"enum": [action.const]}
    one = _scalar(action)
    if isinstance(action.nargs, int):
        one = {"type": "array", "items": one, "minItems": action.nargs, "maxItems": action.nargs}
    elif action.nargs in ("*", "+"):
        one = {"type": "array", "items": one, "minItems": int(action.nargs == "+")}
    return {"type": "array", "items": one} if isinstance(action, argparse._AppendAction) else one


def _scalar(action: argparse.Action) -> dict[str, Any]:
    kind = _TYPES.get(action.type)
    scalar: dict[str, Any] = {"type": kind or ["string", "number", "boolean"]}  # a function of the script's own
    if action.choices is not None:
        choices = list(action.choices)
        return {**scalar, "enum": choices} if _is_json(choices) else scalar
    return scalar


def _word(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


def _jsonable(value: Any) -> Any:
    return value if _is_json(value) else str(value)
