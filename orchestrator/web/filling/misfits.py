"""What does not fit a template's schema, in the words of a form. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.api.input_schema import Misfit
from orchestrator.web.filling.form_values import MORE_NAME
from orchestrator.web.filling.schema_fields import PREFIX, Layout

_TYPES = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}
_SAID: Mapping[str, str] = {
    "minimum": "At least {}.",
    "maximum": "At most {}.",
    "exclusiveMinimum": "More than {}.",
    "exclusiveMaximum": "Less than {}.",
    "multipleOf": "A multiple of {}.",
    "minLength": "At least {} characters.",
    "maxLength": "At most {} characters.",
    "minItems": "At least {} entries.",
    "maxItems": "At most {} entries.",
    "pattern": "It must match the pattern {}.",
}


def sentence(misfit: Misfit) -> str:
    """What to put right."""
    match misfit.keyword:
        case "required":
            return "Fill this in."
        case "enum" | "const":
            return "Choose one of those offered."
        case "uniqueItems":
            return "Each entry once."
        case "type" if isinstance(misfit.wanted, str):
            return f"This must be {_TYPES.get(misfit.wanted, f'of type {misfit.wanted}')}."
        case keyword if keyword in _SAID:
            return _SAID[keyword].format(_plain(misfit.wanted))
    return misfit.message


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def field_of(layout: Layout, pointer: str) -> str | None:
    """The name of the field that shows the value at a pointer (from the input on), or of the nearest one around it."""
    names = {one.name for one in layout}
    unescaped = {_unescaped(one.name): one.name for one in layout}
    name = PREFIX + pointer
    while name.startswith(f"{PREFIX}/"):
        if name in names or name in unescaped:
            return name if name in names else unescaped[name]
        name = name.rpartition("/")[0]
    if PREFIX in names:
        return PREFIX
    return MORE_NAME if layout.more is not None and pointer else None


def _unescaped(name: str) -> str:
    return name.replace("~1", "/").replace("~0", "~")


def beside(layout: Layout, pointer: str, said: str) -> tuple[str, str]:
    """The name of the field that something is wrong with (empty: of none), and what to say there."""
    name = field_of(layout, pointer)
    if name is None:
        return "", said
    rest = pointer.removeprefix(name.removeprefix(PREFIX)).strip("/") if name != MORE_NAME else pointer.strip("/")
    return name, f"{_place(rest)}: {said}" if rest else said


def _place(rest: str) -> str:
    """`Entry 2` for the second of a list."""
    return f"Entry {int(rest) + 1}" if rest.isdigit() and len(rest) < 7 else rest
