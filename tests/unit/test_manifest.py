"""Lines of a batch: where they end, what is an item and what is not, and that no part of it is kept in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from orchestrator.api import manifest
from orchestrator.api.batch_checks import Checker
from orchestrator.api.batch_lines import LINE_BYTES, Numbered, Splitter
from orchestrator.api.input_schema import Form
from orchestrator.api.manifest import Manifest
from orchestrator.domain.template import Template
from orchestrator.errors import Invalid
from orchestrator.store.batches import Refusal

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["n"],
    "properties": {"n": {"type": "integer", "maximum": 9}, "text": {"type": "string", "default": "hello"}},
}
TEMPLATE = Template.model_validate({"name": "t", "handler": "a:B", "input": SCHEMA})


def checker() -> Checker:
    return Checker(TEMPLATE, Form(TEMPLATE.input))


def lines_of(content: bytes) -> list[Numbered]:
    splitter = Splitter()
    return [*splitter.feed(content), *splitter.last()]


def told(content: bytes) -> list[dict[str, Any] | Refusal | None]:
    check = checker()
    return [check.check(line) for line in lines_of(content)]


def one(content: bytes) -> dict[str, Any]:
    (row,) = told(content)
    assert isinstance(row, dict), row
    return row


def refused(content: bytes) -> Refusal:
    (refusal,) = told(content)
    assert isinstance(refusal, Refusal), refusal
    return refusal


@given(
    content=some.binary(max_size=200).map(lambda raw: raw.replace(b"a", b"\n").replace(b"b", b"\r\n")),
    cuts=some.lists(some.integers(0, 200), max_size=6),
)
def test_lines_do_not_depend_on_how_the_bytes_come(content: bytes, cuts: list[int]) -> None:
    splitter, found, places = Splitter(), list[Numbered](), [0, *sorted(min(cut, len(content)) for cut in cuts)]
    for begin, end in zip(places, [*places[1:], len(content)], strict=True):
        found += splitter.feed(content[begin:end])
    assert found + splitter.last() == lines_of(content)


def test_lines_end_at_lf_alone_and_blank_ones_count_but_say_nothing() -> None:
    found = lines_of('{"a": "\u2028"}\r\n\n \t\r\n{"b": 1}'.encode())
    assert [(line.number, line.raw.decode()) for line in found] == [(1, '{"a": "\u2028"}'), (4, '{"b": 1}')]


def test_a_line_that_is_too_long_is_refused_before_it_has_come() -> None:
    splitter = Splitter()
    splitter.feed(b"{}\n" + b"x" * LINE_BYTES)
    with pytest.raises(Invalid, match="line 2 is longer") as refusal:
        splitter.feed(b"x" * 1000)
    assert refusal.value.code == "too_large"


def test_an_item_gets_defaults_from_schema_and_template() -> None:
    row = one(b'{"custom_id": "a", "input": {"n": 1}}')
    assert row["input"] == {"n": 1, "text": "hello"}
    assert (row["custom_id"], row["line"], row["timeout_s"], row["max_attempts"]) == ("a", 1, 3600.0, 5)


def test_an_item_may_ask_for_less_than_the_template_gives_and_not_for_more() -> None:
    assert one(b'{"input": {"n": 1}, "timeout_s": 5, "max_attempts": 1}')["timeout_s"] == 5
    assert one(b'{"input": {"n": 1}, "timeout_s": 99999, "max_attempts": 99}')["max_attempts"] == 5


def test_an_item_without_a_name_is_called_after_its_line() -> None:
    assert one(b'\n\n{"input": {"n": 1}}')["custom_id"] == "line-3"


def test_the_first_line_may_say_what_all_items_have_in_common() -> None:
    nothing, first, second = told(
        b'{"$defaults": {"input": {"n": 1}, "priority": 7}}\n'
        b'{"input": {"text": "x"}}\n{"input": {"n": 2}, "priority": 0}'
    )
    assert nothing is None
    assert isinstance(first, dict) and (first["input"], first["priority"]) == ({"n": 1, "text": "x"}, 7)
    assert isinstance(second, dict) and (second["input"]["n"], second["priority"]) == (2, 0)


def test_a_line_of_errors_jsonl_can_be_sent_again() -> None:
    line = {
        "custom_id": "a",
        "input": {"n": 1},
        "priority": 0,
        "labels": {},
        "timeout_s": 30.0,
        "max_attempts": 2,
        "line": 7,
        "request": "req_1",
        "status": "failed",
        "error": {"code": "oom"},
    }
    assert one(json.dumps(line).encode())["line"] == 1


def test_a_line_of_errors_jsonl_that_was_refused_does_not_pass_for_one_with_an_empty_input() -> None:
    (refusal,) = told(b'{"custom_id": "a", "line": 7, "status": "refused", "error": {"code": "bad_json"}}')
    assert isinstance(refusal, Refusal) and (refusal.pointer, refusal.custom_id) == ("/status", "a")
    assert "send the line itself" in refusal.message


@pytest.mark.parametrize(
    ("line", "code", "pointer"),
    [
        (b"[", "bad_json", None),
        (b'[{"input": {}}]', "bad_json", None),
        (b'{"input": {"n": 1}}{"input": {"n": 2}}', "bad_json", None),
        (b"custom_id,n", "bad_json", None),
        (b"\x1f\x8b\x08\x00\x00", "bad_json", None),
        (b"\xef\xbb\xbf{}", "bad_json", None),
        (b'{"input": {"n": NaN}}', "bad_json", None),
        (b'{"input": {"n": 1, "n": 2}}', "bad_json", None),
        (b'{"input": {"text": "\\u0000"}}', "invalid_string", None),
        (b'{"input": {}}', "invalid_input", "/input"),
        (b'{"input": {"n": 10}}', "invalid_input", "/input/n"),
        (b'{"input": {"n": 1}, "colour": "red"}', "invalid_input", "/colour"),
        (b'{"input": {"n": 1}, "template": "other"}', "invalid_input", "/template"),
        (b'{"input": {"n": 1}, "expire_queued_after_s": 5}', "invalid_input", "/expire_queued_after_s"),
        (b'{"input": {"n": 1}, "tenant": "other"}', "invalid_input", "/tenant"),
        (b'{"items": [{"input": {"n": 1}}]}', "invalid_input", "/items"),
        (b'{"custom_id": "../etc", "input": {"n": 1}}', "invalid_input", "/custom_id"),
        (b'{"custom_id": 5, "input": {"n": 1}}', "invalid_input", "/custom_id"),
        (b'{"input": {"n": 1}, "priority": "high"}', "invalid_input", "/priority"),
        (b'{"input": {"n": 1}, "labels": {"a": 1}}', "invalid_input", "/labels/a"),
    ],
)
def test_what_is_no_item_says_why(line: bytes, code: str, pointer: str | None) -> None:
    refusal = refused(line)
    assert (refusal.code, refusal.pointer, refusal.line) == (code, pointer, 1)


def test_a_name_stands_once_and_a_refused_line_takes_none() -> None:
    first, second, third = told(
        b'{"custom_id": "a", "input": {"n": 10}}\n'
        b'{"custom_id": "a", "input": {"n": 1}}\n{"custom_id": "a", "input": {"n": 2}}'
    )
    assert isinstance(first, Refusal) and first.custom_id == "a"
    assert isinstance(second, dict)
    assert isinstance(third, Refusal) and third.code == "duplicate_custom_id" and "line 2" in third.message


# ------------------------------------------------------------------------------------------------------------ together


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Manifest]:
    with Manifest(checker(), tmp_path, strict=True) as one:
        yield one


@pytest.fixture
def lenient(tmp_path: Path) -> Iterator[Manifest]:
    with Manifest(checker(), tmp_path, strict=False) as one:
        yield one


def item(n: int) -> bytes:
    return b'{"input": {"n": %d}}\n' % n


def test_one_bad_line_refuses_a_strict_manifest_and_names_the_first_ones(strict: Manifest) -> None:
    strict.take(lines_of(item(1) * 5 + item(10) + item(1) + b"nonsense\n"))
    with pytest.raises(Invalid) as refusal:
        strict.close()
    assert refusal.value.code == "invalid_input" and refusal.value.message.startswith("line 6: /input/n: 10 is greater")
    assert [one["pointer"] for one in refusal.value.listed] == ["/lines/6/input/n", "/lines/8"]


def test_a_strict_manifest_is_given_up_after_so_many_bad_lines(strict: Manifest) -> None:
    with pytest.raises(Invalid) as refusal:
        strict.take(lines_of(item(10) * 1000))
    assert len(refusal.value.listed) == manifest.LISTED


def test_bad_lines_of_a_lenient_manifest_leave_their_neighbours_alone(lenient: Manifest) -> None:
    lenient.take(lines_of(item(10) + item(1) + b"nonsense\n" + item(2)))
    lenient.close()
    (rows,) = lenient.rows()
    (refusals,) = lenient.all_refusals()
    assert [row["line"] for row in json.loads(rows)] == [2, 4]
    assert [(one.line, one.code) for one in refusals] == [(1, "invalid_input"), (3, "bad_json")]


@pytest.mark.parametrize("content", [b"", b"\n\n \r\n", b'{"$defaults": {"priority": 1}}\n'])
def test_a_manifest_without_an_item_is_empty(strict: Manifest, content: bytes) -> None:
    strict.take(lines_of(content))
    with pytest.raises(Invalid) as refusal:
        strict.close()
    assert refusal.value.code == "empty_batch"


def test_a_lenient_manifest_without_an_item_says_what_is_wrong_with_its_lines(lenient: Manifest) -> None:
    lenient.take(lines_of(b"id,n\n1,2\n"))
    with pytest.raises(Invalid, match="line 1 is not JSON"):
        lenient.close()


def test_there_is_a_most_of_items(strict: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MOST_ITEMS", 3)
    strict.take(lines_of(item(1) * 3))
    with pytest.raises(Invalid) as refusal:
        strict.take(lines_of(item(1)))
    assert refusal.value.code == "too_many_items"


def test_rows_come_in_statements_of_bounded_size_and_as_often_as_asked(
    strict: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict.take(lines_of(item(1) * 2500))
    assert [len(json.loads(rows)) for rows in strict.rows()] == [1000, 1000, 500]
    monkeypatch.setattr(manifest, "ROWS_BYTES", 1)
    assert len(list(strict.rows())) == 2500


def test_equal_lines_have_an_equal_digest_whatever_their_ends(tmp_path: Path) -> None:
    digests = set()
    for content in (item(1) * 2, (item(1) * 2).replace(b"\n", b"\r\n"), (item(1) * 2).rstrip()):
        with Manifest(checker(), tmp_path, strict=True) as one:
            one.take(lines_of(content))
            digests.add(one.close())
    assert len(digests) == 1
