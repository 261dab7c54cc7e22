"""Input schemas: JSON Schema 2020-12, complete in themselves. A reference that leads elsewhere is never followed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from orchestrator.errors import Invalid

_IN_PROPERTIES = re.compile(r"/input/properties/[^/]+")
_REFERENCES = ("$ref", "$dynamicRef")
FILE = "muster-file"
"""The `format` of a string that names a file; docs/rest.md."""
_PLAIN = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are data: what looks like a reference in them is none."""


def check(schema: dict[str, Any]) -> None:
    """Raises Invalid with a pointer when no input could be held to it."""
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        pointer = "/input" + "".join(f"/{part}" for part in error.absolute_path)
        raise _invalid(pointer, f"is no JSON Schema: {error.message[:300]}") from None
    for pointer in _files(schema, "/input"):
        if not _IN_PROPERTIES.fullmatch(pointer):
            raise _invalid(pointer, f"a file must be a property of the input itself: `format: {FILE}` stands too deep")
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for pointer, reference in _references(schema, "/input"):
        if not reference.startswith("#"):
            raise _invalid(pointer, f"leads out of the schema ({reference[:100]!r}); copy what it names into `$defs`")
        try:
            resolver.lookup(reference)
        except Unresolvable:
            raise _invalid(pointer, f"names nothing in the schema ({reference[:100]!r})") from None


class Form:
    """A checked schema, ready for many inputs."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = jsonschema.Draft202012Validator(schema, registry=Registry())
        self.files = frozenset(pointer.rpartition("/")[2] for pointer in _files(schema, "/input"))
        """Inputs that name files."""
        self._defaults = {
            name: field["default"]
            for name, field in schema.get("properties", {}).items()
            if isinstance(field, dict) and "default" in field
        }

    def fit(self, values: dict[str, Any]) -> dict[str, Any]:
        """The input with the schema's defaults. Raises Invalid with a pointer to what does not fit."""
        filled = {**self._defaults, **values}
        try:
            error = jsonschema.exceptions.best_match(self._validator.iter_errors(filled))
        except (Unresolvable, RecursionError):
            raise Invalid("/input: the template's schema refers to what is not there, or to itself for ever") from None
        if error is not None:
            pointer = "/input" + "".join(f"/{part}" for part in error.absolute_path)
            raise Invalid(f"{pointer}: {error.message[:500]}", pointer=pointer)
        return filled


def _references(schema: Any, pointer: str) -> Iterator[tuple[str, str]]:
    match schema:
        case dict():
            for key, inner in schema.items():
                if key in _REFERENCES and isinstance(inner, str):
                    yield f"{pointer}/{key}", inner
                elif key not in _PLAIN:
                    yield from _references(inner, f"{pointer}/{key}")
        case list():
            for number, inner in enumerate(schema):
                yield from _references(inner, f"{pointer}/{number}")


def _files(schema: Any, pointer: str) -> Iterator[str]:
    """Where the schema says that a value names a file."""
    match schema:
        case dict():
            if schema.get("format") == FILE:
                yield pointer
            for key, inner in schema.items():
                if key not in _PLAIN:
                    yield from _files(inner, f"{pointer}/{key}")
        case list():
            for number, inner in enumerate(schema):
                yield from _files(inner, f"{pointer}/{number}")


def _invalid(pointer: str, why: str) -> Invalid:
    return Invalid(f"{pointer} {why}", code="invalid_template", pointer=pointer)
