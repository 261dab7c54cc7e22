"""What is typed into the fields of a form, and the input that it means; both ways. Pure.

Whether the input fits is the schema's to say (`input_schema.Form`); here only what cannot be read at all is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from orchestrator.api.body import parse
from orchestrator.errors import Invalid
from orchestrator.web.filling.schema_fields import MORE, PREFIX, Field, Kind, Layout
from orchestrator.web.frame import legible

Typed = Mapping[str, Sequence[str]]
"""What stands in the fields, by name; of most names one text."""
MORE_NAME = f"{PREFIX}:{MORE}"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)


class Nothing(Enum):
    """No value: the property is left out."""

    GIVEN = "nothing"


@dataclass(kw_only=True)
class Reading:
    """The input that was typed, as far as it can be read."""

    values: dict[str, Any] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    """Why something could not be read, by the name of its field."""


def typed_of(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """By name, each line ending as LF: a form sends CR LF, whoever typed it meant one."""
    found: dict[str, list[str]] = {}
    for name, text in pairs:
        found.setdefault(name, []).append(text.replace("\r\n", "\n"))
    return found


# ----------------------------------------------------------------------------------------------------- from an input


def written(layout: Layout, values: Mapping[str, Any]) -> dict[str, list[str]]:
    """What to show in the fields for an input."""
    typed: dict[str, list[str]] = {}
    for one in layout.fields:
        _write(typed, one, values if one.pointer == "" else values.get(one.key, Nothing.GIVEN))
    if layout.more is not None and (rest := unnamed(layout, values)):
        typed[MORE_NAME] = [legible.pretty(rest)]
    return typed


def unnamed(layout: Layout, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that have no field."""
    named = {one.key for one in layout.fields}
    return {} if "" in named else {key: value for key, value in values.items() if key not in named}


def beyond(fields: Iterable[Field], values: Any) -> list[str]:
    """The names of groups whose value says more than their fields can; they must be shown as JSON."""
    found: list[str] = []
    for one in fields:
        value = values.get(one.key) if isinstance(values, dict) else None
        if one.kind is not Kind.GROUP or value is None:
            continue
        if not isinstance(value, dict) or value.keys() - {inner.key for inner in one.fields}:
            found.append(one.name)
        else:
            found += beyond(one.fields, value)
    return found


def defaults(layout: Layout) -> dict[str, Any]:
    """The input of a form that nobody touched."""
    found = {one.key: value for one in layout.fields if (value := _default(one)) is not Nothing.GIVEN}
    whole = found.get("")
    return whole if isinstance(whole, dict) else found


def _default(one: Field) -> Any:
    if "default" in one.schema:
        return one.schema["default"]
    if one.kind is Kind.GROUP:
        inner = {each.key: value for each in one.fields if (value := _default(each)) is not Nothing.GIVEN}
        return inner or Nothing.GIVEN
    return Nothing.GIVEN


def _write(typed: dict[str, list[str]], one: Field, value: Any) -> None:
    if value is Nothing.GIVEN or value is None:
        return
    if one.kind is Kind.GROUP and isinstance(value, dict):
        for inner in one.fields:
            _write(typed, inner, value.get(inner.key, Nothing.GIVEN))
        return
    if texts := _texts(one, value):
        typed[one.name] = texts


def _texts(one: Field, value: Any) -> list[str]:
    match one.kind, value:
        case Kind.SWITCH, bool():
            return ["true"] if value else []
        case Kind.CHOICE, _:
            return [json.dumps(value, ensure_ascii=False)]
        case Kind.CHOICES, list():
            return [json.dumps(each, ensure_ascii=False) for each in value]
        case Kind.LIST, list():
            return [_lines(value) if value else ""]
        case Kind.JSON, _:
            return [legible.pretty(value)]
        case _, str():
            return [value]
    return [json.dumps(value, ensure_ascii=False)]


def _lines(value: list[Any]) -> str:
    """A line for each, or JSON where lines cannot say it."""
    texts = [each if isinstance(each, str) else json.dumps(each) for each in value]
    plain = all(text and "\n" not in text and text == text.strip() for text in texts)
    return "\n".join(texts) if plain and not texts[0].startswith("[") else json.dumps(value, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------------- to an input


def read(layout: Layout, typed: Typed) -> Reading:
    """The input that stands in the fields."""
    reading = Reading()
    untouched = written(layout, defaults(layout))
    for one in layout.fields:
        value = _read(one, typed, untouched, reading.wrong)
        if one.pointer == "" and isinstance(value, dict):
            reading.values |= value
        elif one.pointer != "" and value is not Nothing.GIVEN:
            reading.values[one.key] = value
    if layout.more is not None:
        _add_more(reading, _first(typed, MORE_NAME))
    return _storable(reading)


def _add_more(reading: Reading, text: str) -> None:
    if not text.strip():
        return
    try:
        more = _object(text)
        if twice := sorted(more.keys() & reading.values.keys()):
            raise ValueError(f"{twice[0]!r} has a field of its own above")
        reading.values |= more
    except ValueError as error:
        reading.wrong[MORE_NAME] = str(error)


def _storable(reading: Reading) -> Reading:
    """As the API would read it: no NUL, no lone surrogate, not too deep."""
    try:
        parse(json.dumps(reading.values).encode(), "the input")
    except Invalid as error:
        reading.wrong.setdefault("", error.message)
    return reading


def _read(one: Field, typed: Typed, untouched: Typed, wrong: dict[str, str]) -> Any:
    if one.kind is Kind.GROUP:
        return _read_group(one, typed, untouched, wrong)
    try:
        return _read_one(one, typed)
    except ValueError as error:
        wrong[one.name] = str(error)
        return Nothing.GIVEN


def _read_group(one: Field, typed: Typed, untouched: Typed, wrong: dict[str, str]) -> Any:
    """Left out if nobody touched it and it could not be sent as it is."""
    values = {
        inner.key: value
        for inner in one.fields
        if (value := _read(inner, typed, untouched, wrong)) is not Nothing.GIVEN
    }
    if one.required or "default" in one.schema:
        return values
    names = [name for name in {*typed, *untouched} if name.startswith(f"{one.name}/")]
    touched = any(_filled(typed, name) != _filled(untouched, name) for name in names)
    lacking = any(inner.required and inner.key not in values for inner in one.fields)
    return values if values and (touched or not lacking) else Nothing.GIVEN


def _filled(typed: Typed, name: str) -> list[str]:
    return [text for text in typed.get(name, ()) if text]


def _read_one(one: Field, typed: Typed) -> Any:
    """Raises ValueError for what cannot be read."""
    text = _first(typed, one.name)
    match one.kind:
        case Kind.SWITCH:
            return _switch(one, bool(text))
        case Kind.CHOICES:
            return _several(one, [json.loads(each) for each in typed.get(one.name, ()) if each])
        case Kind.LIST if one.name in typed:
            return _several(one, _entries(one, text))
        case Kind.LINE | Kind.TEXT:
            return text if text or (one.default and one.name in typed) else Nothing.GIVEN
    if not text.strip():
        return Nothing.GIVEN
    match one.kind:
        case Kind.WHOLE | Kind.NUMBER:
            return _number(text)
        case Kind.FILE:
            return text.strip()
        case Kind.JSON if one.pointer == "":
            return _object(text)
    return _json(text)


def _switch(one: Field, on: bool) -> Any:
    """Off is said where that is not the same as nothing."""
    return on if on or one.required or "default" in one.schema else Nothing.GIVEN


def _several(one: Field, values: list[Any]) -> Any:
    return values if values or one.default else Nothing.GIVEN


def _entries(one: Field, text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            found = _json(text)
        except ValueError:
            found = None
        if isinstance(found, list):
            return found
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    items = one.schema.get("items")
    texts = isinstance(items, dict) and items.get("type") not in ("integer", "number")
    return lines if texts else [_number(line) for line in lines]


def _number(text: str) -> int | float:
    """As typed: 3 is a whole number, 3.0 and 3e2 may be."""
    said = text.strip()
    if not _NUMBER.fullmatch(said) or len(said) > 300:
        raise ValueError(f"{said[:40]!r} is no number: write 12, -3 or 0.5")
    try:
        return int(said)
    except ValueError:
        number = float(said)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {said[:40]} is too large")
    return int(number) if number.is_integer() and abs(number) < 2**53 and "." not in said else number


def _json(text: str) -> Any:
    try:
        return parse(text.encode("utf-8", "surrogatepass"), "this")
    except Invalid as error:
        raise ValueError(error.message) from None


def _object(text: str) -> dict[str, Any]:
    value = _json(text)
    if not isinstance(value, dict):
        raise ValueError('this is no JSON object: write {"name": value, …}')
    return value


def _first(typed: Typed, name: str) -> str:
    return next(iter(typed.get(name, ())), "")
