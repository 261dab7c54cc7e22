"""The lines to copy mean in a shell what they meant on the page, whatever stands in the input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.inputs import gather
from orchestrator.web.frame.spelling import Sent, lines, submit_line

SCHEMA = {
    "properties": {
        "prompt": {"type": "string"},
        "steps": {"type": "integer"},
        "guidance": {"type": "number"},
        "fast": {"type": "boolean"},
    }
}
NASTY = 'it\'s "so" $HOME `id` $(id) \\n \\ ! ; | & > < * ? ~ # \n\t{a,b} \x1b[31m \u202e é'
_SPY = "import json, sys; json.dump([sys.argv[1:], sys.stdin.read()], open({seen!r}, 'w'))"


def sent(**values: Any) -> Sent:
    return Sent(template="film", input=values, labels={}, mode="auto", priority=0)


@pytest.fixture
def shell(tmp_path: Path) -> Any:
    """Runs a line in bash where `muster` and `curl` only note what they were given: arguments and stdin."""
    seen = tmp_path / "seen.json"
    for name in ("muster", "curl"):
        spy = tmp_path / name
        spy.write_text(f"#!{sys.executable}\n{_SPY.format(seen=str(seen))}\n")
        spy.chmod(0o755)

    def run(line: str) -> tuple[list[str], str]:
        where = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "MUSTER_TOKEN": "mst_secret"}
        subprocess.run(["bash", "-c", line], check=True, env=where, stdin=subprocess.DEVNULL, timeout=20)
        arguments, given = json.loads(seen.read_text())
        return arguments, given

    return run


def understood(arguments: list[str], given: str) -> dict[str, Any]:
    """The input as `muster submit` reads these arguments."""
    pairs = [arguments[n + 1] for n, one in enumerate(arguments) if one == "-i"]
    if "--stdin" in arguments:
        assert not pairs
        return dict(json.loads(given))
    return gather(SCHEMA, pairs)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"prompt": "a cat", "steps": 20, "guidance": 5.5, "fast": True},
        {"prompt": NASTY},
        {"prompt": "@not-a-file"},
        {"prompt": "@@twice"},
        {"prompt": "-x --stdin"},
        {"prompt": "3"},
        {"prompt": ""},
        {"guidance": 4},
        {"steps": -5},
        {"unknown": "7"},
        {"unknown": {"deep": [NASTY, None, 1e300]}},
        {"prompt": None},
        {"k=v": "equals in the key"},
        {"": "no key"},
        {"prompt": "x" * 10_000},
    ],
)
def test_the_submit_line_sends_exactly_the_input(shell: Any, values: dict[str, Any]) -> None:
    arguments, given = shell(submit_line(sent(**values), SCHEMA))
    assert arguments[:2] == ["submit", "film"]
    assert understood(arguments, given) == values


def test_short_typed_inputs_are_options_that_people_can_read() -> None:
    line = submit_line(sent(prompt="a cat", steps=20), SCHEMA)
    assert line == "muster submit film -i 'prompt=a cat' -i steps=20"


def test_the_terms_come_too(shell: Any) -> None:
    what = Sent(template="film", input={}, labels={"team": NASTY}, mode="batch", priority=-3)
    arguments, _ = shell(submit_line(what, SCHEMA))
    assert arguments == ["submit", "film", "--mode", "batch", "--priority=-3", "--label", f"team={NASTY}"]


def test_every_line_runs_in_a_shell_and_curl_brings_the_token_without_naming_it(shell: Any) -> None:
    what = Sent(template="film", input={"prompt": NASTY}, labels={"a": "b"}, mode="warm", priority=1)
    for _, cli, curl in lines("req_1", what, SCHEMA, "https://muster.example"):
        shell(cli)
        arguments, _ = shell(curl)
        assert "Authorization: Bearer mst_secret" in arguments
        assert "mst_" not in curl
        body = [arguments[n + 1] for n, one in enumerate(arguments) if one == "--data-binary"]
        if body:
            assert json.loads(body[0])["input"] == {"prompt": NASTY}
