"""Most input schemas say little of few fields; that an input fits one of those is seen without a validator.

Answers only "it fits": all else, what is wrong above all, is for the validator to say. Fifty microseconds of a submit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_FIELDS = 100
"""Of an input; for more of them the validator counts steps."""
_TYPES: dict[str, frozenset[type]] = {
    "string": frozenset({str}),
    "number": frozenset({int, float}),
    "integer": frozenset({int}),
    "boolean": frozenset({bool}),
    "null": frozenset({type(None)}),
}
_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "format", "deprecated", "$comment", "$schema"})
_OF_FIELDS = _ANNOTATIONS | {"type", "enum", "minimum", "maximum", "minLength", "maxLength"}
_OF_INPUTS = _ANNOTATIONS | {"type", "properties", "required", "additionalProperties"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Field:
    types: frozenset[type]
    choices: frozenset[tuple[type, Any]] | None
    """With their types: to Python, true is 1."""
    least: float
    most: float
    shortest: int
    longest: float

    def fits(self, value: Any) -> bool:
        kind = type(value)
        if kind not in self.types or (self.choices is not None and (kind, value) not in self.choices):
            return False
        if kind is str:
            return self.shortest <= len(value) <= self.longest
        return kind not in _TYPES["number"] or bool(self.least <= value <= self.most)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainSchema:
    """An object of scalars."""

    fields: Mapping[str, _Field]
    required: frozenset[str]
    closed: bool

    def fits(self, values: dict[str, Any]) -> bool:
        """Whether the input surely fits."""
        if len(values) > MOST_FIELDS or not self.required <= values.keys():
            return False
        if self.closed and not values.keys() <= self.fields.keys():
            return False
        return all(name not in self.fields or self.fields[name].fits(value) for name, value in values.items())


def plain(schema: dict[str, Any]) -> PlainSchema | None:
    """None if the schema says anything that is not known here."""
    closed = schema.get("additionalProperties", True)
    if schema.keys() - _OF_INPUTS or schema.get("type") != "object" or not isinstance(closed, bool):
        return None
    fields = {name: _field(inner) for name, inner in schema.get("properties", {}).items()}
    known = {name: field for name, field in fields.items() if field is not None}
    if len(known) < len(fields):
        return None
    return PlainSchema(fields=known, required=frozenset(schema.get("required", ())), closed=not closed)


def _field(schema: Any) -> _Field | None:
    if not isinstance(schema, dict) or schema.keys() - _OF_FIELDS:
        return None
    said, choices = schema.get("type"), schema.get("enum")
    names = [said] if isinstance(said, str) else said or []
    if not names or any(name not in _TYPES for name in names):
        return None
    if choices is not None and any(isinstance(one, list | dict) for one in choices):
        return None
    return _Field(
        types=frozenset().union(*(_TYPES[name] for name in names)),
        choices=None if choices is None else frozenset((type(one), one) for one in choices),
        least=schema.get("minimum", -math.inf),
        most=schema.get("maximum", math.inf),
        shortest=schema.get("minLength", 0),
        longest=schema.get("maxLength", math.inf),
    )
