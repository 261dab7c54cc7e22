"""The Python that a form equals is Python, and says what the form says."""

from __future__ import annotations

import ast
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.web.filling import equals

SCHEMA = {"properties": {"prompt": {"type": "string"}}}


@pytest.mark.parametrize(
    "said",
    [
        {"template": "film", "input": {}},
        {"template": "film", "input": {"prompt": 'it\'s "so"\n\\ {x} \u202e', "on": True, "n": None}, "mode": "batch"},
        {"template": "film", "input": {}, "timeout_s": 90.0, "expire_queued_after_s": 0.5, "labels": {"a": "'"}},
    ],
)
def test_the_python_that_is_shown_calls_the_client_with_the_same(said: dict[str, Any]) -> None:
    shown = {one.name: one for one in equals.of_request(said, SCHEMA, url="http://muster")}
    calls = [node for node in ast.walk(ast.parse(shown["Python"].text)) if isinstance(node, ast.Call)]
    submit = next(call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "submit")
    assert [ast.literal_eval(one) for one in submit.args] == [said["template"], said["input"]]
    told = {str(one.arg): eval(ast.unparse(one.value), {"timedelta": timedelta}) for one in submit.keywords}
    renamed = {"timeout_s": "timeout", "expire_queued_after_s": "expire_queued_after"}
    wanted = {
        renamed.get(name, name): timedelta(seconds=value) if name in renamed else value
        for name, value in said.items()
        if name not in ("template", "input")
    }
    assert told == wanted


def test_what_the_command_has_no_word_for_is_said() -> None:
    shown = equals.of_request({"template": "film", "input": {}, "max_attempts": 2}, SCHEMA, url="http://muster")
    assert [bool(one.note) for one in shown] == [True, False, True]
    assert '"max_attempts": 2' in shown[1].text
