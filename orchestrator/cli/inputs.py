"""From `-i key=value`, files and stdin to the input of a request, typed by the template's schema."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

LARGEST_BYTES = 1024 * 1024
FILE = "muster-file"  # the `format` of an input that names a file
KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def gather(
    schema: Mapping[str, Any] | None,
    pairs: Iterable[str],
    *,
    file: Path | None = None,
    stdin: bool = False,
    send: Callable[[Path], str] | None = None,
) -> dict[str, Any]:
    """The whole input: `file` or stdin first, then each KEY=VALUE over it.

    Where the schema wants a file, `@FILE` is what `send` makes of it, once all else is known to be good.
    """
    named: dict[str, Path] = {}
    given: dict[str, Any] = {}
    if file is not None:
        given = _object(read_text(file), str(file))
    elif stdin:
        given = _object(_read_stdin(), "stdin")
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"-i {pair!r}: write KEY=VALUE")
        named.pop(key, None)
        if send is not None and _schema_of(schema, key).get("format") == FILE and is_named(text):
            named[key] = Path(text[1:])
        else:
            given[key] = typed(_schema_of(schema, key), _content(text))
    return {**given, **{key: send(regular(path)) for key, path in named.items() if send is not None}}


def is_named(text: str) -> bool:
    """Whether it is `@FILE`."""
    return text.startswith("@") and not text.startswith("@@")


def regular(path: Path) -> Path:
    """Itself, if it is a file that can be read."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return path
    except (OSError, ValueError) as error:
        raise click.UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    raise click.UsageError(f"{path} is not a regular file")


def typed(schema: Mapping[str, Any], text: str) -> Any:
    """`text` as JSON if that is of the schema's type, else as a string. Without a type: as JSON if it is JSON."""
    wanted = _types(schema)
    if wanted == {"string"}:
        return text
    try:
        value = _parsed(text)
    except ValueError:
        return text
    return value if not wanted or _is(value, wanted) else text


def read_text(path: Path, largest_bytes: int = LARGEST_BYTES) -> str:
    """A regular file of UTF-8 text. A folder, a pipe, a device or an endless file is refused before it is read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise click.UsageError(f"{path} is not a regular file")
        with path.open("rb") as file:
            content = file.read(largest_bytes + 1)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return _decoded(content, str(path), largest_bytes)


def _read_stdin() -> str:
    return _decoded(sys.stdin.buffer.read(LARGEST_BYTES + 1), "stdin", LARGEST_BYTES)


def _decoded(content: bytes, name: str, largest_bytes: int) -> str:
    if len(content) > largest_bytes:
        raise click.UsageError(f"{name} is larger than {largest_bytes >> 10} KiB")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{name} is not UTF-8 text") from error


def _content(text: str) -> str:
    """`@file` is the text of the file; `@@x` is the text `@x`."""
    if text.startswith("@@"):
        return text[1:]
    return read_text(Path(text[1:])) if text.startswith("@") else text


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        value = _parsed(text)
    except ValueError as error:
        raise click.UsageError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise click.UsageError(f"{name} must hold one JSON object, the input")
    return value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _schema_of(schema: Mapping[str, Any] | None, key: str) -> Mapping[str, Any]:
    properties = (schema or {}).get("properties")
    found = properties.get(key) if isinstance(properties, dict) else None
    return found if isinstance(found, dict) else {}


def _types(schema: Mapping[str, Any]) -> set[str]:
    kinds = schema.get("type")
    named = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    return {kind for kind in named if kind in KINDS}


def _is(value: Any, wanted: set[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in wanted
    if isinstance(value, float) and value.is_integer() and "integer" in wanted:
        return True
    return any(isinstance(value, KINDS[kind]) for kind in wanted)
