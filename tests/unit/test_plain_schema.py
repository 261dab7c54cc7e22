"""What is said to fit without a validator fits by the validator; and the schemas that people write are plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.api.bounded_schema import MOST_STEPS, BoundedValidator, budget
from orchestrator.api.plain_schema import MOST_FIELDS, plain

FIELDS: list[Any] = [
    {"type": "string"},
    {"type": "string", "minLength": 1, "maxLength": 2, "format": "email"},
    {"type": "integer", "minimum": 0, "maximum": 1},
    {"type": "number", "maximum": 0.5},
    {"type": ["integer", "null"], "minimum": 1},
    {"type": ["string", "number"], "minimum": 1, "minLength": 2},
    {"type": "boolean"},
    {"type": "null"},
    {"type": "integer", "enum": [1, 3]},
    {"type": ["boolean", "integer"], "enum": [1]},
    {"type": "number", "enum": [True, 0]},
    {"type": "string", "enum": ["a", None]},
]
VALUES: list[Any] = ["", "a", "ab", "abc", -1, 0, 1, 3, 0.0, 0.5, 1.0, True, False, None, [], [1], {}, {"a": 1}]


def fits_by_the_validator(schema: dict[str, Any], values: dict[str, Any]) -> bool:
    with budget(MOST_STEPS):
        return bool(BoundedValidator(schema).is_valid(values))


@pytest.mark.parametrize("field", FIELDS, ids=str)
@pytest.mark.parametrize("around", [{}, {"required": ["x"]}, {"additionalProperties": False}], ids=str)
def test_nothing_is_said_to_fit_that_the_validator_refuses(field: dict[str, Any], around: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"x": field}, **around}
    known = plain(schema)
    assert known is not None
    inputs = [{}, {"y": 1}, *({"x": value} for value in VALUES), *({"x": value, "y": 1} for value in VALUES)]
    said = [values for values in inputs if known.fits(values)]
    assert said or around, "some input fits each of them"
    assert [values for values in said if not fits_by_the_validator(schema, values)] == []


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "minProperties": 1},
        {"type": "object", "patternProperties": {"a": {}}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"x": True}},
        {"type": "object", "properties": {"x": {}}},
        {"type": "object", "properties": {"x": {"enum": ["a"]}}},
        {"type": "object", "properties": {"x": {"type": "string", "pattern": "a"}}},
        {"type": "object", "properties": {"x": {"type": "number", "exclusiveMinimum": 0}}},
        {"type": "object", "properties": {"x": {"type": "array"}}},
        {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {}}},
    ],
    ids=str,
)
def test_what_says_more_is_left_to_the_validator(schema: dict[str, Any]) -> None:
    assert plain(schema) is None


def test_an_input_of_many_fields_is_left_to_the_validator() -> None:
    known = plain({"type": "object"})
    assert known is not None and known.fits({})
    assert not known.fits({str(number): 1 for number in range(MOST_FIELDS + 1)})


def test_the_templates_that_ship_with_muster_have_plain_schemas() -> None:
    folder = Path(__file__).parents[2] / "job_templates"
    schemas = {path.stem: yaml.safe_load(path.read_text()).get("input") for path in folder.glob("*.yaml")}
    assert [name for name in ("echo", "digits") if plain(schemas[name]) is None] == []
