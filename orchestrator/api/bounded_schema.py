"""JSON Schema in bounded time, whatever schema and input say. Knows nothing of templates.

A schema is its author's, an input its caller's, and the event loop everybody's. Three things can run away: a pattern
that backtracks (Python's `re`), references that double at every level, and lists that are compared pairwise. Patterns
go to Rust's engine, which is linear and knows no look-around; lists are compared by hash; and every keyword costs steps
of a budget, so that the rest ends too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError
from pydantic_core import SchemaError, SchemaValidator, core_schema

MOST_STEPS = 200_000
"""Of one input: about a second."""
LONGEST_PATTERN = 1000

_left: ContextVar[list[int]] = ContextVar("left")


class OutOfSteps(Exception):
    """The budget did not do."""


@contextmanager
def budget(steps: int) -> Iterator[None]:
    """Everything that is checked inside shares these."""
    token = _left.set([steps])
    try:
        yield
    finally:
        _left.reset(token)


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text. Raises ValueError for what is no pattern here."""
    return _matcher(pattern).isinstance_python(text)


@lru_cache(maxsize=4096)
def _matcher(pattern: str) -> SchemaValidator:
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"a pattern is at most {LONGEST_PATTERN} characters long")
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        why = str(error).strip().rpartition("error: ")[2].splitlines()[0]
        raise ValueError(f"this pattern cannot be matched in linear time or is none: {why}") from None


Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


_COSTS = {"$ref": 20, "$dynamicRef": 20, "anyOf": 4, "oneOf": 4, "allOf": 4, "not": 4, "if": 4}
"""Steps of keywords that do more than compare: a reference is looked up each time."""


def _counted(name: str, keyword: Keyword) -> Keyword:
    cost = _COSTS.get(name, 1)

    def run(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[ValidationError] | None:
        _spend(cost + _size(value) // 32 + _size(instance) // 1000)
        return keyword(validator, value, instance, schema)

    return run


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | list | dict) else 0


def _spend(steps: int) -> None:
    left = _left.get()
    left[0] -= steps
    if left[0] < 0:
        raise OutOfSteps


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for pattern, inner in patterns.items():
        _spend(len(instance))
        for name, value in instance.items():
            if matches(pattern, name):
                yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, inner: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    _spend(len(instance) * (1 + len(patterns)) // 8)
    extra = [name for name in instance if name not in known and not any(matches(one, name) for one in patterns)]
    if isinstance(inner, dict):
        for name in extra:
            yield from validator.descend(instance[name], inner, path=name)
    elif inner is False and extra:
        named = ", ".join(repr(name) for name in extra[:5]) + (", …" if len(extra) > 5 else "")
        verb = "was" if len(extra) == 1 else "were"
        yield ValidationError(f"Additional properties are not allowed ({named} {verb} unexpected)")


def _unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not wanted or not isinstance(instance, list):
        return
    seen: set[Any] = set()
    for item in instance:
        key = _hashable(item)
        if key in seen:
            yield ValidationError(f"{str(instance)[:100]} has non-unique elements")
            return
        seen.add(key)


def _hashable(value: Any) -> Any:
    """Equal exactly where JSON Schema says so: 1 is 1.0, but true is not 1."""
    _spend(1)
    match value:
        case bool():
            return ("bool", value)
        case list():
            return ("list", tuple(_hashable(item) for item in value))
        case dict():
            return ("dict", frozenset((key, _hashable(item)) for key, item in value.items()))
    return value


_OWN: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
_STANDARD: dict[str, Any] = dict(jsonschema.Draft202012Validator.VALIDATORS)
BoundedValidator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    {name: _counted(name, _OWN.get(name, keyword)) for name, keyword in _STANDARD.items()},
)
"""Draft 2020-12. Use it inside `budget`; raises OutOfSteps."""
