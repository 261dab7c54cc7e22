"""Rules of geometry: arithmetic as data, checked when a template is registered."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.catalog import read_template
from orchestrator.domain.template import Template
from orchestrator.errors import Invalid


def template(*rules: dict[str, Any], **change: Any) -> Template:
    document = {"name": "x", "handler": "a:B", "nodes": 2, "ranks_per_node": 8, "args": {"u": 8, "r": 2}}
    return read_template(document | {"geometry": list(rules)} | change)


@pytest.mark.parametrize(
    "rule",
    [
        {"product": ["args.u", "args.r"], "equals": "world"},
        {"product": ["args.u"], "divides": 40},
        {"product": ["nodes", "ranks_per_node"], "equals": 16},
        {"product": [4], "divides": "world"},
        {"product": ["args.r"], "equals": "nodes"},
    ],
)
def test_what_holds_is_taken_and_kept(rule: dict[str, Any]) -> None:
    taken = template(rule)
    assert taken.spec["geometry"] == [rule]
    assert Template.model_validate(taken.spec) == taken


@pytest.mark.parametrize(
    ("rule", "change", "said"),
    [
        (
            {"product": ["args.u", "args.r"], "equals": "world", "because": "each rank holds a piece"},
            {"nodes": 1},
            r"rule 0: args.u x args.r = 8 x 2 = 16 must equal world = 8: each rank holds a piece",
        ),
        ({"product": ["args.u"], "divides": 40}, {"args": {"u": 16}}, r"args.u = 16 must divide 40"),
        ({"product": ["args.u"], "divides": 40}, {"args": {}}, r"args.u must be given as a whole number above 0"),
        ({"product": ["args.u"], "divides": 40}, {"args": {"u": True}}, r"args.u must be given as a whole number"),
        ({"product": ["args.u"], "divides": 40}, {"args": {"u": "8"}}, r"args.u must be given as a whole number"),
        ({"product": ["args.u"], "divides": 40}, {"args": {"u": 0}}, r"args.u must be given as a whole number"),
    ],
)
def test_what_does_not_hold_is_refused_with_the_numbers_and_the_reason(
    rule: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        template(rule, **change)
    assert refused.value.pointer == "/geometry"


@pytest.mark.parametrize(
    ("rule", "pointer"),
    [
        ({"product": ["args.u"]}, "/geometry/0"),
        ({"product": ["args.u"], "equals": 8, "divides": 8}, "/geometry/0"),
        ({"product": [], "equals": 8}, "/geometry/0/product"),
        ({"product": ["__import__('os')"], "equals": 8}, "/geometry/0/product/0"),
        ({"product": ["args.u + 1"], "equals": 8}, "/geometry/0/product/0"),
        ({"product": [0], "divides": 8}, "/geometry/0/product/0"),
        ({"product": [1.0], "divides": 8}, "/geometry/0/product/0"),
        ({"product": [True], "divides": 8}, "/geometry/0/product/0"),
        ({"product": [8], "equals": "gpus"}, "/geometry/0/equals"),
        ({"product": [8], "equals": 8, "eval": "1"}, "/geometry/0/eval"),
    ],
)
def test_a_rule_is_data_and_nothing_else(rule: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        template(rule)
    assert refused.value.pointer == pointer


def test_a_shape_that_is_refused_itself_is_named_first() -> None:
    with pytest.raises(Invalid) as refused:
        template({"product": ["world"], "equals": 16}, nodes=0)
    assert refused.value.pointer == "/nodes"
