"""Inputs are held to schemas in bounded time, whatever either says; and as JSON Schema has it."""

from __future__ import annotations

import random
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.bounded_schema import BoundedValidator, budget
from orchestrator.api.input_schema import Form, check
from orchestrator.errors import Invalid

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 1.5]) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)
SCHEMAS: list[dict[str, Any]] = [
    {"uniqueItems": True},
    {"properties": {"a": {"type": "integer"}}, "additionalProperties": False},
    {"patternProperties": {"^a": {"type": "string"}}, "additionalProperties": {"type": "boolean"}},
    {"items": {"pattern": "^a+$"}},
    {"anyOf": [{"type": "array", "items": {"enum": [1, "a"]}}, {"minProperties": 1}]},
    {"unevaluatedProperties": False, "properties": {"a": True}},
]


@given(st.sampled_from(SCHEMAS), JSON)
def test_it_says_what_the_reference_says(schema: dict[str, Any], value: Any) -> None:
    with budget(10**6):
        ours = BoundedValidator(schema).is_valid(value)
    assert ours == jsonschema.Draft202012Validator(schema).is_valid(value)


def doubling(depth: int) -> dict[str, Any]:
    """Each definition refers to the next one twice."""
    levels = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(depth)}
    return {"type": "object", "$defs": {**levels, f"d{depth}": False}, "properties": {"x": {"$ref": "#/$defs/d0"}}}


BOMBS: dict[str, tuple[dict[str, Any], Any]] = {
    "a pattern that backtracks": ({"properties": {"x": {"pattern": "^(a+)+$"}}}, "a" * 50_000 + "!"),
    "an email of a thousand dots": ({"properties": {"x": {"pattern": r"^([\w.-]+)+@"}}}, "a." * 50_000),
    "a pattern of large counts": ({"properties": {"x": {"pattern": "^([a-z]{0,100}x){0,50}y$"}}}, "x" * 500_000),
    "a key that backtracks": ({"properties": {"x": {"patternProperties": {"^(a|a)*$": {}}}}}, {"a" * 20_000 + "!": 1}),
    "references that double": (doubling(30), 1),
    "a list that sorts badly": (
        {"properties": {"x": {"uniqueItems": True}}},
        [random.Random(1).choice([n, str(n), [n], {"a": n}]) for n in range(100_000)],
    ),
    "a list of many numbers": ({"properties": {"x": {"items": {"type": "integer"}}}}, list(range(400_000))),
    "a large enumeration": (
        {"properties": {"x": {"items": {"enum": [f"v{n}" for n in range(2_000)]}}}},
        ["no"] * 100_000,
    ),
    "a large text, refused a thousand times": (
        {"properties": {"x": {"allOf": [{"maxLength": n} for n in range(1_000)]}}},
        "x" * 1_000_000,
    ),
}


@pytest.mark.parametrize("bomb", list(BOMBS))
def test_what_would_run_away_is_answered_within_seconds(bomb: str) -> None:
    schema, value = BOMBS[bomb]
    check(schema)
    form, begun = Form(schema), time.thread_time()
    try:
        form.fit({"x": value})
    except Invalid as error:
        assert len(error.message) < 700 and error.pointer is not None and error.pointer.startswith("/input")
    assert time.thread_time() - begun < 5


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"properties": {"x": {"pattern": "(?=a)b"}}}, "/input/properties/x/pattern"),
        ({"properties": {"x": {"pattern": r"(a)\1"}}}, "/input/properties/x/pattern"),
        ({"properties": {"x": {"pattern": "("}}}, "/input/properties/x/pattern"),
        ({"properties": {"x": {"pattern": "a" * 1001}}}, "/input/properties/x/pattern"),
        ({"properties": {"x": {"pattern": "((a{1000}){1000}){1000}"}}}, "/input/properties/x/pattern"),
        ({"patternProperties": {"(?<!a)b": {}}}, "/input/patternProperties"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "/input"),
        ({"properties": {f"p{n}": {} for n in range(10_000)}}, "/input"),
    ],
)
def test_a_schema_that_cannot_be_checked_in_time_is_refused_with_its_place(
    schema: dict[str, Any], pointer: str
) -> None:
    begun = time.thread_time()
    with pytest.raises(Invalid) as refused:
        check(schema)
    assert (refused.value.code, refused.value.pointer) == ("invalid_template", pointer)
    assert time.thread_time() - begun < 2


def test_data_in_a_schema_is_no_pattern() -> None:
    check({"properties": {"x": {"const": {"pattern": "("}, "default": {"pattern": "("}}}})
