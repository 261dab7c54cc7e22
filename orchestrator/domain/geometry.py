"""The `geometry:` section of a template: what its numbers must fulfil before any GPU is asked for.

Arithmetic as data, never code: each rule says that a product of numbers equals a number or divides it. A number is
written as such or named: `world`, `nodes`, `ranks_per_node`, `replicas`, `ranks_per_replica`, or an argument of the
gang as `args.NAME`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, model_validator

from orchestrator.domain.strict import Strict

_NAMED = re.compile(r"world|nodes|ranks_per_node|replicas|ranks_per_replica|args\.[A-Za-z_][A-Za-z0-9_]{0,127}")


def _term(value: Any) -> int | str:
    if type(value) is int and 1 <= value <= 10**9:
        return value
    if isinstance(value, str) and _NAMED.fullmatch(value):
        return value
    raise ValueError(
        "must be a whole number above 0, world, nodes, ranks_per_node, replicas, ranks_per_replica or args.NAME"
    )


Term = Annotated[int | str, PlainValidator(_term)]


class Rule(Strict):
    """`product` equals, or divides, another number; `because` is shown to whoever breaks it."""

    product: tuple[Term, ...] = Field(min_length=1, max_length=8)
    equals: Term | None = None
    divides: Term | None = None
    because: Annotated[str, Field(max_length=400)] = ""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.equals is None) == (self.divides is None):
            raise ValueError("a rule says either `equals` or `divides`")
        return self


def check_replicas(replicas: int, *, nodes: int, ranks_per_node: int) -> None:
    """Raises ValueError unless all replicas get as many ranks, each of them whole nodes or a part of one."""
    world = nodes * ranks_per_node
    if world % replicas:
        raise ValueError(f"{replicas} replicas cannot share {world} ranks evenly: replicas must divide {world}")
    size = world // replicas
    if size % ranks_per_node and ranks_per_node % size:
        raise ValueError(
            f"a replica of {size} ranks would lie across nodes of {ranks_per_node} unevenly: it must be whole nodes,"
            " or divide one"
        )


def check_rules(
    rules: tuple[Rule, ...], *, nodes: int, ranks_per_node: int, replicas: int = 1, args: Mapping[str, Any]
) -> None:
    """Raises ValueError for the first rule that does not hold, with the numbers and the reason."""
    world = nodes * ranks_per_node
    shape = {
        "world": world,
        "nodes": nodes,
        "ranks_per_node": ranks_per_node,
        "replicas": replicas,
        "ranks_per_replica": world // replicas,
    }
    for number, rule in enumerate(rules):
        numbers = [_value(term, shape, args) for term in rule.product]
        product = math.prod(numbers)
        other = _value(_other(rule), shape, args)
        if product != other if rule.equals is not None else other % product:
            raise ValueError(f"rule {number}: {_sentence(rule, numbers, product, other)}")


def _other(rule: Rule) -> Term:
    term = rule.equals if rule.equals is not None else rule.divides
    assert term is not None
    return term


def _value(term: Term, shape: Mapping[str, int], args: Mapping[str, Any]) -> int:
    if isinstance(term, int):
        return term
    if term in shape:
        return shape[term]
    value = args.get(term.removeprefix("args."))
    if type(value) is not int or value < 1:
        raise ValueError(f"{term} must be given as a whole number above 0: a rule of geometry names it")
    return value


def _sentence(rule: Rule, numbers: list[int], product: int, other: int) -> str:
    names = " x ".join(str(term) for term in rule.product)
    steps = " x ".join(map(str, numbers))
    sum_up = f"{names} = {steps} = {product}" if len(numbers) > 1 else f"{names} = {product}"
    verb = "must equal" if rule.equals is not None else "must divide"
    named = _other(rule)
    goal = f"{named} = {other}" if isinstance(named, str) else str(other)
    return f"{sum_up} {verb} {goal}" + (f": {rule.because}" if rule.because else "")
