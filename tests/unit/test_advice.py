"""docs/errors.md and the advice of the service say the same of every code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.domain import advice
from orchestrator.domain.states import FAULTS, Fault, Reason

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
CODE = re.compile(r"`([a-z_]+)`")


def rows(title: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its header."""
    section = PAGE.split(f"## {title}\n", 1)[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


REASONS = {code: row[1] for row in rows("Why a request failed") for code in CODE.findall(row[0])}
CALLS = {code for row in rows("Problem documents") for code in CODE.findall(row[0])}
QUIET = {"drained", "idle", "replaced", "stopped"}
"""Ends of gangs in good order: no request fails of them."""


def test_the_page_has_its_tables() -> None:
    assert len(REASONS) > 20 and len(CALLS) > 15


def test_every_reason_on_the_page_has_advice_and_no_other() -> None:
    assert set(advice.REASONS) - QUIET == set(REASONS)


def test_whose_fault_it_is_stands_on_the_page_as_in_the_table() -> None:
    assert {code: str(told.whose) for code, told in advice.REASONS.items() if code not in QUIET} == REASONS


def test_every_code_of_a_refused_call_has_advice_and_no_other() -> None:
    assert set(advice.CALLS) == CALLS


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_that_a_row_may_hold_has_advice_that_agrees_on_the_fault(reason: Reason) -> None:
    told = advice.REASONS[reason]
    assert (told.whose is advice.Whose.USER) == (FAULTS[reason] is Fault.USER)
    assert told.next and told.next[0].islower() and not told.next.endswith(".")


def test_a_code_from_a_newer_service_is_answered_too() -> None:
    assert advice.of("something_new").next
