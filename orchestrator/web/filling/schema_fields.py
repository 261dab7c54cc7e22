"""From a template's input schema to the fields of a form. Pure: knows no HTML, and holds no input to the schema.

What a form cannot show (alternatives, lists of objects, nesting without end) becomes a field for JSON: there is no
schema for which nothing can be submitted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.api.input_schema import FILE

PREFIX = "in"
"""What the names of all fields of an input begin with; behind it comes a JSON pointer."""
MOST_FIELDS = 200
MOST_CHOICES = 500
"""A longer list is no choice but a field to type in."""
MOST_CHARACTERS = 256 << 10
"""Of choices and defaults in one form. By references, each of 200 fields could have those of a megabyte."""
DEEPEST = 4
LONG = 200
"""Characters from which on a text gets several lines."""
_SCALARS = ("string", "integer", "number")


class Kind(StrEnum):
    LINE = "line"
    TEXT = "text"
    WHOLE = "whole"
    NUMBER = "number"
    SWITCH = "switch"
    CHOICE = "choice"
    CHOICES = "choices"
    LIST = "list"
    FILE = "file"
    GROUP = "group"
    JSON = "json"


@dataclass(frozen=True, kw_only=True)
class Choice:
    value: str
    """JSON."""
    label: str


@dataclass(frozen=True, kw_only=True)
class Field:
    """One input, or a group of them."""

    kind: Kind
    pointer: str
    """From the input on; empty for the whole of it."""
    id: str
    key: str
    """The name of the property."""
    title: str
    hint: str
    required: bool
    schema: Mapping[str, Any]
    choices: Sequence[Choice] = ()
    fields: Sequence[Field] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        return PREFIX + self.pointer

    @property
    def default(self) -> Any:
        return self.schema.get("default")

    @property
    def attributes(self) -> Mapping[str, int | float | str]:
        """Of a field for numbers, as HTML knows them."""
        step = self.schema.get("multipleOf") or (1 if self.kind is Kind.WHOLE else "any")
        said = {"min": self.schema.get("minimum"), "max": self.schema.get("maximum"), "step": step}
        return {name: value for name, value in said.items() if value is not None}

    @property
    def radio(self) -> bool:
        """Few and short: seen at once rather than behind a click."""
        return len(self.choices) <= 4 and sum(len(one.label) for one in self.choices) <= 60


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The form of one schema."""

    fields: Sequence[Field]
    more: Field | None
    """For properties that the schema allows and does not name."""

    def __iter__(self) -> Iterator[Field]:
        """All fields, groups before what is in them."""
        yield from _walk((*self.fields, *((self.more,) if self.more else ())))


MORE = "more"
"""The ID of the field for what the schema does not name; it has no pointer of its own."""


def layout(schema: Mapping[str, Any], as_json: Collection[str] = ()) -> Layout:
    """The form of an input schema that `input_schema.check` let pass; `as_json`: names of groups shown as JSON."""
    root = _Root(schema, as_json)
    whole = root.resolved(schema)
    properties = whole.get("properties")
    if not isinstance(properties, dict) or not properties or len(properties) > MOST_FIELDS:
        return Layout(fields=[_whole(whole)], more=None)
    fields = root.fields(whole, "", "f", 0)
    closed = whole.get("additionalProperties") is False or whole.get("unevaluatedProperties") is False
    more = None if closed and not whole.get("patternProperties") else _more()
    return Layout(fields=fields, more=more)


def escaped(part: str) -> str:
    """As a part of a JSON pointer (RFC 6901)."""
    return part.replace("~", "~0").replace("/", "~1")


def _walk(fields: Sequence[Field]) -> Iterator[Field]:
    for one in fields:
        yield one
        yield from _walk(one.fields)


def _whole(schema: Mapping[str, Any]) -> Field:
    hint = _text(schema.get("description")) or "A JSON object."
    empty: dict[str, Any] = {"default": {}}
    return Field(
        kind=Kind.JSON, pointer="", id="f", key="", title="Input", hint=hint, required=False, schema=empty | {**schema}
    )


def _more() -> Field:
    hint = "A JSON object with inputs that the template takes and has no field for."
    return Field(kind=Kind.JSON, pointer="", id=MORE, key="", title="More inputs", hint=hint, required=False, schema={})


class _Root:
    """Where references lead; and how many fields there are already."""

    def __init__(self, schema: Mapping[str, Any], as_json: Collection[str]) -> None:
        self._schema = schema
        self._as_json = as_json
        self._made = 0
        self._left = MOST_CHARACTERS
        self._known: dict[int, tuple[Sequence[Choice], int]] = {}
        """Choices and their length, by what says them in the schema: what many fields refer to is read once."""

    def fields(self, schema: Mapping[str, Any], pointer: str, id_: str, depth: int) -> list[Field]:
        required = schema.get("required")
        needed = required if isinstance(required, list) else []
        return [
            self._field(inner, name, f"{pointer}/{escaped(name)}", f"{id_}-{number}", name in needed, depth)
            for number, (name, inner) in enumerate(schema["properties"].items())
        ]

    def _field(self, said: Any, key: str, pointer: str, id_: str, required: bool, depth: int) -> Field:
        self._made += 1
        schema = self._without_long_default(self.resolved(said))
        choices = self._choices(schema)
        kind = self._kind(schema, choices, depth)
        if kind is Kind.GROUP and PREFIX + pointer in self._as_json:
            kind = Kind.JSON
        inner = self.fields(schema, pointer, id_, depth + 1) if kind is Kind.GROUP else []
        if kind is Kind.LIST:
            schema = {**schema, "items": self.resolved(schema.get("items"))}
        return Field(
            kind=kind,
            pointer=pointer,
            id=id_,
            key=key,
            title=_text(schema.get("title")) or key,
            hint=_hint(schema, kind),
            required=required,
            schema=schema,
            choices=choices,
            fields=inner,
        )

    def _without_long_default(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """A default that is not shown holds where the field is left empty."""
        if "default" not in schema or self._spend(_written_length(schema["default"])):
            return schema
        return {key: value for key, value in schema.items() if key != "default"}

    def _kind(self, schema: Mapping[str, Any], choices: Sequence[Choice], depth: int) -> Kind:
        if choices:
            return Kind.CHOICES if schema.get("type") == "array" else Kind.CHOICE
        match schema.get("type", "object" if "properties" in schema else None):
            case "string" if schema.get("format") == FILE:
                return Kind.FILE
            case "string":
                return Kind.TEXT if _is_long(schema) else Kind.LINE
            case "integer":
                return Kind.WHOLE
            case "number":
                return Kind.NUMBER
            case "boolean":
                return Kind.SWITCH
            case "array" if self.resolved(schema.get("items")).get("type") in _SCALARS:
                return Kind.LIST
            case "object" if self._may_open(schema, depth):
                return Kind.GROUP
        return Kind.JSON

    def _may_open(self, schema: Mapping[str, Any], depth: int) -> bool:
        """Whether fields can say all that the object may hold."""
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties or depth >= DEEPEST:
            return False
        return self._made + len(properties) <= MOST_FIELDS and not isinstance(schema.get("additionalProperties"), dict)

    def _choices(self, schema: Mapping[str, Any]) -> Sequence[Choice]:
        if schema.get("type") == "array":
            items = self.resolved(schema.get("items"))
            return self._choices(items) if schema.get("uniqueItems") and items.get("type") != "array" else ()
        if "const" in schema:
            return (
                [_choice(schema["const"], schema.get("title"))] if self._spend(_written_length(schema["const"])) else ()
            )
        if _is_list(schema.get("enum")):
            return self._with_room(schema["enum"], lambda values: [_choice(one) for one in values if one is not None])
        return self._with_room(schema["oneOf"], _named) if _is_list(schema.get("oneOf")) else ()

    def _with_room(self, said: list[Any], read: Callable[[list[Any]], Sequence[Choice]]) -> Sequence[Choice]:
        """What `said` offers, or nothing where the form has no room for it."""
        if id(said) not in self._known:
            made = read(said)
            self._known[id(said)] = made, sum(len(one.value) + len(one.label) for one in made)
        choices, length = self._known[id(said)]
        return choices if self._spend(length) else ()

    def _spend(self, characters: int) -> bool:
        """Whether there is room for that many more."""
        if characters > self._left:
            return False
        self._left -= characters
        return True

    def resolved(self, said: Any) -> Mapping[str, Any]:
        """A schema without references, wrappings of one, and null beside a type: those say that it may be left out."""
        schema: dict[str, Any] = dict(said) if isinstance(said, dict) else {}
        for _ in range(8):
            wrapped = self._wrapped(schema)
            if wrapped is None:
                break
            schema = {**wrapped, **{key: value for key, value in schema.items() if key not in _WRAPPINGS}}
        if isinstance(kinds := schema.get("type"), list):
            left = [kind for kind in kinds if kind != "null"]
            schema["type"] = left[0] if len(left) == 1 else None
        return schema

    def _wrapped(self, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What stands behind a reference, or in a wrapping that leaves no choice; a reference to nowhere is nothing."""
        if isinstance(schema.get("$ref"), str):
            return self._at(schema["$ref"])
        for wrapping in _WRAPPINGS[1:]:
            if isinstance(inner := schema.get(wrapping), list):
                left = [one for one in inner if one != {"type": "null"}]
                if len(left) == 1 and isinstance(left[0], dict):
                    return left[0]
        return None

    def _at(self, reference: str) -> Mapping[str, Any]:
        place: Any = self._schema
        for part in reference.removeprefix("#").split("/")[1:]:
            place = place.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(place, dict) else {}
        return place if isinstance(place, dict) else {}


_WRAPPINGS = ("$ref", "allOf", "anyOf", "oneOf")


def _is_list(said: Any) -> bool:
    return isinstance(said, list) and 0 < len(said) <= MOST_CHOICES


def _named(alternatives: Sequence[Any]) -> Sequence[Choice]:
    """`oneOf` with a `const` each is an enum whose values have titles."""
    if not all(isinstance(one, dict) and "const" in one for one in alternatives):
        return ()
    return [_choice(one["const"], one.get("title")) for one in alternatives if one["const"] is not None]


def _written_length(value: Any) -> int:
    return len(value) if isinstance(value, str) else len(json.dumps(value))


def _choice(value: Any, title: Any = None) -> Choice:
    written = json.dumps(value, ensure_ascii=False)
    return Choice(value=written, label=_text(title) or (value if isinstance(value, str) else written))


def _is_long(schema: Mapping[str, Any]) -> bool:
    if schema.get("format") in ("textarea", "multiline", "markdown"):
        return True
    most = schema.get("maxLength")
    return (isinstance(most, int) and most > LONG) or "\n" in str(schema.get("default") or "")


def _hint(schema: Mapping[str, Any], kind: Kind) -> str:
    """The description, and the bounds in words."""
    return " ".join(filter(None, (_text(schema.get("description")), bounds(schema, kind))))


def bounds(schema: Mapping[str, Any], kind: Kind) -> str:
    """What a value must keep to, as a sentence; empty where nothing is said."""
    match kind:
        case Kind.WHOLE | Kind.NUMBER:
            return _range(schema)
        case Kind.LINE | Kind.TEXT:
            return _length(schema, "minLength", "maxLength", "characters")
        case Kind.LIST | Kind.CHOICES:
            return _length(schema, "minItems", "maxItems", "entries")
    return ""


def _range(schema: Mapping[str, Any]) -> str:
    said = [
        f"{word} {json.dumps(schema[key])}"
        for key, word in _LIMITS.items()
        if isinstance(schema.get(key), int | float) and not isinstance(schema.get(key), bool)
    ]
    return _sentence(", ".join(said))


_LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
    "multipleOf": "a multiple of",
}


def _length(schema: Mapping[str, Any], least: str, most: str, what: str) -> str:
    low, high = schema.get(least), schema.get(most)
    match low, high:
        case int(), int() if low > 0:
            return f"{low:,} to {high:,} {what}."
        case _, int():
            return f"At most {high:,} {what}."
        case int(), _ if low > 1:
            return f"At least {low:,} {what}."
    return ""


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _text(said: Any) -> str:
    return said.strip()[:2000] if isinstance(said, str) else ""
