"""Which fields a schema gets, and that what stands in them is the input again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.web.filling import form_values
from orchestrator.web.filling.schema_fields import Kind, layout


def kind(schema: dict[str, Any], **beside: Any) -> Kind:
    shape = layout({"type": "object", "properties": {"one": schema}, **beside})
    return shape.fields[0].kind


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"type": "string"}, Kind.LINE),
        ({"type": "string", "maxLength": 200}, Kind.LINE),
        ({"type": "string", "maxLength": 201}, Kind.TEXT),
        ({"type": "string", "format": "textarea"}, Kind.TEXT),
        ({"type": "string", "default": "a\nb"}, Kind.TEXT),
        ({"type": "string", "format": "muster-file"}, Kind.FILE),
        ({"type": ["string", "null"], "format": "muster-file"}, Kind.FILE),
        ({"type": "integer"}, Kind.WHOLE),
        ({"type": "number"}, Kind.NUMBER),
        ({"type": "boolean"}, Kind.SWITCH),
        ({"enum": ["a", 1, None]}, Kind.CHOICE),
        ({"const": "a"}, Kind.CHOICE),
        ({"oneOf": [{"const": 1, "title": "One"}, {"const": 2}]}, Kind.CHOICE),
        ({"type": "array", "items": {"type": "number"}}, Kind.LIST),
        ({"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True}, Kind.CHOICES),
        ({"type": "array", "items": {"type": "object"}}, Kind.JSON),
        ({"type": "array"}, Kind.JSON),
        ({"type": "object", "properties": {"a": {}}}, Kind.GROUP),
        ({"properties": {"a": {}}}, Kind.GROUP),
        ({"type": "object"}, Kind.JSON),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}}, Kind.JSON),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, Kind.LINE),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, Kind.JSON),
        ({"type": ["string", "integer"]}, Kind.JSON),
        ({"allOf": [{"type": "integer"}]}, Kind.WHOLE),
        ({"$ref": "#/$defs/a~1b"}, Kind.SWITCH),
        ({"$ref": "#/$defs/loop"}, Kind.JSON),
        ({"$ref": "#/$defs/nowhere"}, Kind.JSON),
        ({}, Kind.JSON),
        (True, Kind.JSON),
    ],
)
def test_each_kind_of_schema_has_its_field(schema: Any, wanted: Kind) -> None:
    defs = {"a/b": {"type": "boolean"}, "loop": {"$ref": "#/$defs/loop"}}
    assert kind(schema, **{"$defs": defs}) is wanted


def test_a_schema_that_contains_itself_ends() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "n": {"type": "integer"}}}
    assert len(list(layout(tree))) < 250


SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "told": {"type": "string", "default": "hello"},
        "n": {"type": "integer"},
        "x": {"type": "number"},
        "on": {"type": "boolean"},
        "off": {"type": "boolean", "default": True},
        "pick": {"enum": ["a", "1", 1, True, {"deep": [1]}]},
        "some": {"type": "array", "uniqueItems": True, "items": {"enum": ["a", "b"]}},
        "tags": {"type": "array", "items": {"type": "string"}},
        "seeds": {"type": "array", "items": {"type": "integer"}},
        "size": {"type": "object", "properties": {"w": {"type": "integer"}, "how": {"type": "string"}}},
        "any": {},
        "a/b~c": {"type": "string"},
    },
}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"text": " two  blanks ", "told": ""},
        {"n": -3, "x": 0.5, "on": True, "off": False},
        {"x": 3, "n": 10**40},
        {"x": 1e300},
        {"pick": "1"},
        {"pick": 1},
        {"pick": {"deep": [1]}},
        {"some": ["a", "b"]},
        {"tags": ["red", "[1]"]},
        {"tags": ["[1]", "red"]},
        {"tags": ["two\nlines", "", " blank "]},
        {"seeds": [1, -2]},
        {"size": {"w": 3}},
        {"size": {"w": 3, "how": "x", "more": None}},
        {"any": {"a": [None, True, "x"]}},
        {"any": "text"},
        {"any": 0},
        {"a/b~c": "</script>\u202e\x1b"},
        {"unknown": {"a": 1}, "text": "x"},
    ],
)
def test_an_input_that_is_shown_in_fields_is_read_as_the_same(values: dict[str, Any]) -> None:
    shape = layout(SCHEMA)
    shape = layout(SCHEMA, as_json=form_values.beyond(shape.fields, values))
    typed = form_values.written(shape, values)
    again = layout(SCHEMA, as_json=typed)
    reading = form_values.read(again, typed)
    assert reading.wrong == {}
    assert reading.values == {"off": values.get("off", False)} | values
    assert {key: type(value) for key, value in reading.values.items() if key in values} == {
        key: type(value) for key, value in values.items()
    }


def test_a_form_that_nobody_touched_holds_the_defaults() -> None:
    shape = layout(SCHEMA)
    assert form_values.defaults(shape) == {"told": "hello", "off": True}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("in/n", "1,5", "is no number"),
        ("in/x", "NaN", "is no number"),
        ("in/x", "1e9999", "too large"),
        ("in/n", "9" * 400, "is no number"),
        ("in/seeds", "1\ntwo", "'two' is no number"),
        ("in/any", "{", "not JSON"),
        ("in/any", "[" * 40 + "]" * 40, "nested deeper"),
        ("in/any", '{"a": 1, "a": 2}', "stands twice"),
        ("in/any", "NaN", "not JSON"),
        ("in:more", "[1]", "no JSON object"),
        ("in:more", '{"text": 1}', "has a field of its own"),
        ("in/pick", "{", ""),
    ],
)
def test_what_cannot_be_read_is_said_of_its_field(name: str, text: str, said: str) -> None:
    reading = form_values.read(layout(SCHEMA), {name: [text], "in/text": ["kept"]})
    assert list(reading.wrong) == [name]
    assert said in reading.wrong[name]
    assert reading.values["text"] == "kept"


def test_an_object_that_nobody_touched_and_lacks_something_is_left_out() -> None:
    inner = {"type": "object", "required": ["w"], "properties": {"w": {"type": "integer"}, "h": {"default": 3}}}
    shape = layout({"type": "object", "properties": {"size": inner}})
    typed = form_values.written(shape, form_values.defaults(shape))
    assert typed == {"in/size/h": ["3"]}
    assert form_values.read(shape, typed).values == {}
    assert form_values.read(shape, {"in/size/h": ["4"]}).values == {"size": {"h": 4}}
    assert form_values.read(shape, {**typed, "in/size/w": ["1"]}).values == {"size": {"w": 1, "h": 3}}


def test_a_tampered_choice_is_held_to_the_schema_not_to_the_form() -> None:
    reading = form_values.read(layout(SCHEMA), {"in/pick": [json.dumps("disco")]})
    assert reading.values["pick"] == "disco"
