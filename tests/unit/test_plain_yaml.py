"""YAML is read without surprises, and what is written reads the same again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from orchestrator.domain import plain_yaml

PLAIN = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=30),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(some.dictionaries(some.text(max_size=8), PLAIN, max_size=4))
def test_what_is_written_reads_the_same_again(value: dict[str, Any]) -> None:
    assert plain_yaml.read(plain_yaml.write(value)) == value


@pytest.mark.parametrize(
    "text", ["1e3", "01", "1:30", "yes", "~", "2020-01-01", "0x10", ".5", "+1", "1_000", "<<", "=", "a\x85b"]
)
def test_a_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert plain_yaml.read(plain_yaml.write({"a": text, text: "b"})) == {"a": text, text: "b"}


def test_keys_keep_their_order_and_lines_stay_lines() -> None:
    assert plain_yaml.write({"b": 1, "a": "one\ntwo\n"}) == "b: 1\na: |\n  one\n  two\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1]\nb: *x", "aliases are not taken"),
        ("a: 1\na: 2", "stands twice"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: [", "line 1"),
        ("[" * 5000, "nested too deeply"),
        ("1: a", "a key must be text"),
        ("a: \0", "special characters"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plain_yaml.read(text)
