"""The filters of the list of requests, between the address and the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from starlette.datastructures import QueryParams

from orchestrator.web.frame.ids import short
from orchestrator.web.requests.asked import Asked
from orchestrator.web.requests.glance import about

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ID = "req_01m8bkqcw3nhv13end7j7e9z9k"


def asked(query: str) -> Asked:
    return Asked.of(QueryParams(query))


def test_the_address_of_a_question_asks_the_same_again() -> None:
    question = asked("status=failed&status=queued&template=film&mode=batch&span=24h&q=" + quote("team=a&b ü%"))
    assert asked(question.query) == question
    assert question.wanted(NOW).states == ("queued", "failed")
    assert question.wanted(NOW).created_after == NOW - timedelta(hours=24)


@pytest.mark.parametrize("odd", ["status=nothing", "mode=x", "span=9y", "after=yesterday", "older=1", "%00=%00", ""])
def test_what_no_control_gives_asks_for_everything(odd: str) -> None:
    assert asked(odd).is_all
    assert asked(odd).query == ""


@pytest.mark.parametrize(
    ("search", "begins", "labels", "labeled"),
    [
        (ID, ID, {}, None),
        (ID[:12], ID[:12], {}, None),
        (ID.upper(), ID, {}, None),
        (ID[4:16], ID[:16], {}, None),
        ("team=ads shot=7", None, {"team": "ads", "shot": "7"}, None),
        ("team=a=b", None, {"team": "a=b"}, None),
        ("ads", None, {}, "ads"),
        ("two words", None, {}, "two words"),
        ("lighthouse", None, {}, "lighthouse"),
        (f"{ID} team=ads", ID, {"team": "ads"}, None),
        ("", None, {}, None),
    ],
)
def test_a_search_is_an_id_labels_or_the_value_of_a_label(
    search: str, begins: str | None, labels: dict[str, str], labeled: str | None
) -> None:
    question = asked(f"q={quote(search)}")
    wanted = question.wanted(NOW)
    assert question.problem is None
    assert (wanted.id_begins, dict(wanted.labels), wanted.labeled) == (begins, labels, labeled)


@pytest.mark.parametrize("search", ["=value", "-bad=1", "a b c d e f g h i"])
def test_a_search_that_cannot_be_done_says_so(search: str) -> None:
    assert asked(f"q={quote(search)}").problem


def test_what_the_list_shows_of_an_id_finds_it() -> None:
    wanted = asked(f"q={quote(short(ID))}").wanted(NOW)
    assert (wanted.id_begins, wanted.id_ends) == ("req_01m8bkqc", "9z9k")


@pytest.mark.parametrize("search", ["01m8bkqc...9z9k", "REQ_01M8BKQC…9Z9K"])
def test_an_id_that_was_typed_as_the_list_shows_it_is_one(search: str) -> None:
    assert (asked(f"q={quote(search)}").wanted(NOW).id_begins, asked(f"q={quote(search)}").wanted(NOW).id_ends) == (
        "req_01m8bkqc",
        "9z9k",
    )


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({}, ""),
        ({"steps": 20, "prompt": "a  cat\njumps"}, "a cat jumps, steps=20"),
        ({"digit": 3}, "digit=3"),
        ({"deep": {"a": [1, None]}}, 'deep={"a": [1, null]}'),
        (None, "(a large input)"),
    ],
)
def test_an_input_is_told_in_a_line(values: dict[str, object] | None, line: str) -> None:
    assert about(values) == line


def test_a_long_input_is_cut() -> None:
    assert len(about({"prompt": "x" * 5000, **{f"k{n}": "y" * 500 for n in range(50)}})) <= 140
