"""An input schema as a table for readers. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.web.filling.schema_fields import Field, Kind, bounds, layout

_TYPES = {Kind.WHOLE: "integer", Kind.FILE: "file", Kind.SWITCH: "boolean", Kind.GROUP: "object"}
_MOST_CHOICES = 12


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    title: str
    type: str
    required: bool
    default: str | None
    bounds: str
    description: str
    depth: int


def rows(schema: Mapping[str, Any]) -> Sequence[Row]:
    """A row for each input, those of an object below it; none for a schema that names no inputs."""
    return list(_rows([one for one in layout(schema).fields if one.pointer], 0))


def _rows(fields: Sequence[Field], depth: int) -> Iterator[Row]:
    for one in fields:
        yield _row(one, depth)
        yield from _rows(one.fields, depth + 1)


def _row(one: Field, depth: int) -> Row:
    description = one.schema.get("description")
    return Row(
        name=one.key,
        title=one.title if one.title != one.key else "",
        type=_type(one),
        required=one.required,
        default=json.dumps(one.default, ensure_ascii=False) if one.default is not None else None,
        bounds=_choices(one) or bounds(one.schema, one.kind),
        description=description if isinstance(description, str) else "",
        depth=depth,
    )


def _type(one: Field) -> str:
    if one.kind in _TYPES:
        return _TYPES[one.kind]
    said = one.schema.get("type")
    if said == "array":
        items = one.schema.get("items")
        of = items.get("type") if isinstance(items, dict) else None
        return f"list of {of}" if isinstance(of, str) else "list"
    if isinstance(said, str):
        return said
    return "one of these" if one.choices else "any JSON"


def _choices(one: Field) -> str:
    labels = [choice.label for choice in one.choices]
    more = f" and {len(labels) - _MOST_CHOICES} more" if len(labels) > _MOST_CHOICES else ""
    return ", ".join(labels[:_MOST_CHOICES]) + more
