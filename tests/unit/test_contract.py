"""/openapi.json as a contract: complete, the same words as the documentation, examples that hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import declared
import httpx
import pytest
from jsonschema import Draft202012Validator

from orchestrator.api.codes import CODES
from orchestrator.api.contract import example
from orchestrator.api.problems import RETRYABLE, STATUS_OF_CODE

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "errors.md"
ROW = re.compile(r"^\| (?P<codes>(?:`[a-z_]+`(?:, )?)+) \| (?P<status>\d{3}) \| (?P<meaning>.*) \|$", re.MULTILINE)


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in declared.document()["paths"].items():
        for method, told in methods.items():
            yield f"{method.upper()} {path}", told


def test_every_operation_has_a_name_of_its_own_that_generators_take() -> None:
    names = [told["operationId"] for _, told in operations()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", name) for name in names), names


def test_no_type_is_called_like_the_constructor_that_generators_make_for_another() -> None:
    """In Go: `Schedule` comes with a `NewSchedule`."""
    names = declared.document()["components"]["schemas"].keys()
    assert not [name for name in names if f"New{name}" in names]


def test_every_operation_says_what_it_is_and_what_each_answer_means() -> None:
    for name, told in operations():
        assert told["summary"] and told["tags"], name
        assert all(answer["description"] for answer in told["responses"].values()), name


def test_every_operation_of_v1_needs_a_token_with_a_scope_and_says_the_codes_of_its_absence() -> None:
    for name, told in operations():
        if "/v1/" in name:
            ((scheme, scopes),) = told["security"][0].items()
            assert scheme == "token" and scopes in (["read"], ["submit"], ["admin"]), name
            assert {"401", "403", "500", "503"} <= told["responses"].keys(), name


def test_the_worker_api_is_not_public() -> None:
    assert not [name for name, _ in operations() if "/internal/" in name]


def test_every_good_answer_with_json_has_a_type() -> None:
    for name, told in operations():
        for status, answer in told["responses"].items():
            for media, content in answer.get("content", {}).items():
                assert content.get("schema"), f"{name} {status} {media}"


def test_the_page_about_rest_names_every_path() -> None:
    """Whole, or by its last word behind what it belongs to: `…/pause`."""
    page = (DOCS / "rest.md").read_text()
    missing = []
    for path in declared.document()["paths"]:
        words = [word for word in path.split("/") if word and "{" not in word]
        if not all(re.search(rf"[/|]{re.escape(word)}\b", page) for word in words):
            missing.append(path)
    assert missing == []


def test_errors_md_and_the_contract_know_the_same_codes_with_the_same_status() -> None:
    public, page = PAGE.read_text().partition("## Why a request failed")[0], {}
    for row in ROW.finditer(public):
        if "workers only" not in row["meaning"]:
            page |= dict.fromkeys(re.findall(r"[a-z_]+", row["codes"]), int(row["status"]))
    assert page == {code: known.status for code, known in CODES.items()}


def test_every_code_is_declared_by_some_operation() -> None:
    declared_codes = set()
    for _, told in operations():
        for answer in told["responses"].values():
            declared_codes |= answer.get("content", {}).get("application/problem+json", {}).get("examples", {}).keys()
    assert declared_codes == CODES.keys()


def test_the_examples_of_problems_are_problems() -> None:
    components = declared.document()["components"]
    validator = Draft202012Validator({"components": components, "$ref": "#/components/schemas/Problem"})
    for code in CODES:
        validator.validate(example(code))


def test_the_examples_of_models_are_of_their_models() -> None:
    components = declared.document()["components"]
    shown = [(name, one) for name, model in components["schemas"].items() for one in model.get("examples", ())]
    assert "Submission" in dict(shown)
    for name, one in shown:
        Draft202012Validator({"components": components, "$ref": f"#/components/schemas/{name}"}).validate(one)


def test_the_status_of_a_code_is_the_same_where_it_is_declared_and_where_it_is_answered() -> None:
    assert all(CODES[code].status == status for code, status in STATUS_OF_CODE.items() if code in CODES)
    assert all(example(code)["retryable"] == (known.status in RETRYABLE) for code, known in CODES.items())


@pytest.mark.parametrize(
    ("status", "media", "body", "complaint"),
    [
        (418, "application/json", b"{}", "not declared"),
        (200, "text/html", b"", "not as text/html"),
        (200, "application/json", b'{"status": "fine"}', "not as declared"),
        (200, "application/json", b'{"status": "ok", "more": 1}', "not as declared"),
    ],
)
def test_an_answer_that_is_not_declared_is_found(status: int, media: str, body: bytes, complaint: str) -> None:
    request = httpx.Request("GET", "http://here/healthz")
    answer = httpx.Response(status, headers={"content-type": media}, content=body, request=request)
    with pytest.raises(AssertionError, match=complaint):
        declared.check(answer)
