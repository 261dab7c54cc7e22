"""What is wrong with what was sent, in words that help."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Request
from pydantic import ValidationError

from orchestrator.api.batch_checks import Checker, Line
from orchestrator.api.batch_lines import Numbered
from orchestrator.api.batch_shapes import BatchOrder
from orchestrator.api.body import as_model
from orchestrator.api.input_schema import Form
from orchestrator.api.parameters import check_query
from orchestrator.api.schedule_shapes import ScheduleDraft
from orchestrator.domain.cron import zone_of
from orchestrator.domain.template import Template, read
from orchestrator.domain.wording import nearest, no_such, told
from orchestrator.errors import Invalid

SCHEMA = {
    "type": "object",
    "required": ["digit"],
    "additionalProperties": False,
    "properties": {"digit": {"type": "integer"}, "seed": {"type": "integer"}},
}
TICK = {"name": "n", "cron": "0 2 * * *", "runs": {"request": {"template": "digits"}}}


@pytest.mark.parametrize(
    ("kind", "said", "words"),
    [
        (Line, {"custom-id": "x"}, "/custom-id: there is no field 'custom-id': did you mean 'custom_id'?"),
        (Line, {"lable": {}}, "/lable: there is no field 'lable': did you mean 'labels'?"),
        (Line, {"timeout": 5}, "/timeout: there is no field 'timeout': did you mean 'timeout_s'?"),
        (Line, {"wibble": 5}, "there are custom_id, input, labels, max_attempts, priority, timeout_s"),
        (Line, {"custom_id": "a b"}, "/custom_id: must be 1 to 128 letters, digits and _ . : @ + = -"),
        (Line, {"custom_id": 5}, "/custom_id: must be text, in quotes"),
        (Line, {"input": [1]}, "/input: must be an object, {…}"),
        (Line, {"priority": "high"}, "/priority: must be a whole number"),
        (
            BatchOrder,
            {"template": "d", "max_failed": "10percent"},
            "/max_failed: must be a number of items",
        ),
        (BatchOrder, {"template": "d", "max_failed": "101%"}, "/max_failed: must be"),
        (BatchOrder, {"template": "d", "file": "lines.jsonl"}, "/file: must be the ID of an upload, as fil_01k…"),
        (ScheduleDraft, {**TICK, "name": "a b"}, "/name: must be a name of lower-case letters, digits and -"),
        (
            ScheduleDraft,
            {**TICK, "start_at": "2027-01-02"},
            "/start_at: must be a moment with its zone, as 2026-11",
        ),
        (ScheduleDraft, {**TICK, "zone": "UTC"}, "/zone: there is no field 'zone': did you mean 'timezone'?"),
        (ScheduleDraft, {"name": "n", "cron": "@daily"}, "/runs: is required"),
    ],
)
def test_what_does_not_fit_is_said_in_words(kind: Any, said: Any, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        as_model(kind, said)
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"digti": 3}, "'digit' is a required property: did you mean 'digit' by 'digti'?"),
        ({"digit": 3, "Seed": 1}, "did you mean 'seed' by 'Seed'?"),
        ({"digit": 3, "colour": 1}, "('colour' was unexpected)"),
        ({}, "'digit' is a required property"),
    ],
)
def test_an_input_that_is_misspelt_is_told_what_was_meant(given: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as refused:
        Form(SCHEMA).fit(given)
    assert refused.value.message.endswith(words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin?"),
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("America/New York", "did you mean America/New_York?"),
        ("EST", "give an IANA name as Europe/Berlin, or UTC"),
        ("Mars/Olympus_Mons", "give an IANA name as Europe/Berlin, or UTC"),
    ],
)
def test_a_zone_that_is_misspelt_is_told_its_name(given: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        zone_of(given)
    assert refused.value.message.endswith(words)


def test_a_parameter_that_is_misspelt_is_told_its_name() -> None:
    asked = Request({"type": "http", "query_string": b"max_paralel=3"})
    with pytest.raises(Invalid) as refused:
        check_query(asked, frozenset({"max_parallel", "priority"}))
    assert refused.value.message.endswith("there are: max_parallel, priority; did you mean 'max_parallel'?")


def test_a_field_deep_in_a_template_is_told_what_was_meant() -> None:
    with pytest.raises(Invalid) as refused:
        read({"name": "t", "handler": "m:H", "limits": {"timeout": 3}})
    assert "did you mean 'timeout_s'?" in refused.value.message


def test_a_list_in_a_line_is_told_that_lines_are_objects() -> None:
    checker = Checker(Template(name="t", handler="m:H"), Form({}))
    refused = checker.check(Numbered(number=1, raw=b'[{"input": {}}]'))
    assert refused.message == "line 1 is no JSON object: write one object per line, no list around them"


def test_words_that_nobody_wrote_are_pydantics_own() -> None:
    with pytest.raises(ValidationError) as refused:
        Line.model_validate({"max_attempts": 0})
    assert told(refused.value.errors()[0], Line) == "Input should be greater than or equal to 1"


def test_what_resembles_nothing_gets_no_guess() -> None:
    assert nearest("wibble", {"input", "labels"}) is None
    assert no_such("x" * 500, ()) == f"there is no field {'x' * 60!r}"
