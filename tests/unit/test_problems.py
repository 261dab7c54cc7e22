"""Every error becomes a problem document: the map from the error tree to statuses is complete."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from orchestrator.api.problems import STATUS, STATUS_OF_CODE, problem, status_of
from orchestrator.errors import BackendError, Conflict, Invalid, MusterError, StaleLease


def tree(root: type[MusterError]) -> Iterator[type[MusterError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == MusterError.__module__:
            yield from tree(child)


@pytest.mark.parametrize("kind", list(tree(MusterError)))
def test_every_class_of_error_has_a_status_of_its_own(kind: type[MusterError]) -> None:
    assert kind in STATUS
    assert status_of(kind("what")) == STATUS[kind]


@pytest.mark.parametrize("code", list(STATUS_OF_CODE))
def test_a_code_with_a_status_of_its_own_keeps_it_in_every_class(code: str) -> None:
    for kind in tree(MusterError):
        assert status_of(kind("what", code=code)) == STATUS_OF_CODE[code]


def test_a_class_that_is_not_mapped_takes_the_status_of_its_parent() -> None:
    class Odd(StaleLease):
        code = "odd"

    assert status_of(Odd("what")) == STATUS[StaleLease]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Conflict("x"), 409),
        (StaleLease("x", code="gang_gone"), 410),
        (Invalid("x"), 422),
        (Invalid("x", code="bad_json"), 400),
        (BackendError("x"), 502),
        (MusterError("x"), 500),
    ],
)
def test_the_status_tells_the_caller_what_to_do(error: MusterError, status: int) -> None:
    assert status_of(error) == status


@pytest.mark.parametrize(("status", "retryable"), [(503, True), (429, True), (502, True), (409, False), (500, False)])
def test_a_problem_is_one_shape_and_says_whether_to_try_again(status: int, retryable: bool) -> None:
    answer = problem(status, "some_code", "what happened")
    body = json.loads(bytes(answer.body))
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == status and body["retryable"] is retryable
    assert body["title"] == "some code" and body["errors"] == []
