"""Every place of the service that logs says a word of the table, with its fields and level; the page has them all."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator import logs
from orchestrator.domain.actions import ACTIONS
from orchestrator.domain.logs_page import page
from orchestrator.domain.states import BATCH_MOVES, GANG_MOVES, REQUEST_MOVES
from orchestrator.loops.removing import Stays

ROOT = Path(__file__).parents[2]
MOVES = {*REQUEST_MOVES, *GANG_MOVES, *BATCH_MOVES}
ELSEWHERE = ("client", "cli")
"""Not in the service: what they say is for people."""
LEVELS = {"debug", "info", "warning", "error", "exception", "log"}


@dataclass(frozen=True)
class Place:
    """A call that logs."""

    where: str
    level: str
    words: frozenset[str]
    fields: frozenset[str]


def places() -> list[Place]:
    files = (path for path in (ROOT / "orchestrator").rglob("*.py"))
    ours = (path for path in files if path.relative_to(ROOT / "orchestrator").parts[0] not in ELSEWHERE)
    return [place for path in sorted(ours) for place in _in(path, ast.parse(path.read_text()))]


def _in(path: Path, tree: ast.Module) -> Iterator[Place]:
    named = sorted(
        (node.lineno, target.id, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for target in node.targets
        if isinstance(target, ast.Name)
    )
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS):
            continue
        if not (isinstance(call.func.value, ast.Name) and call.func.value.id in ("log", "_log")):
            continue
        where = f"{path.relative_to(ROOT)}:{call.lineno}"
        extra = next((one.value for one in call.keywords if one.arg == "extra"), None)
        if isinstance(extra, ast.Name):
            before = [value for line, name, value in named if name == extra.id and line < call.lineno]
            after = [value for _, name, value in named if name == extra.id]
            extra = (before or after)[-1]
        assert isinstance(extra, ast.Dict), f"{where} logs without saying an action"
        said = {
            key.value: value
            for key, value in zip(extra.keys, extra.values, strict=True)
            if isinstance(key, ast.Constant)
        }
        fields = frozenset(str(name) for name in said if name != "action")
        yield Place(where, call.func.attr.replace("exception", "error"), frozenset(_words(said.get("action"))), fields)


def _words(value: ast.expr | None) -> list[str]:
    match value:
        case ast.Constant(value=str(word)):
            return [word]
        case ast.Name(id="stays"):
            return [*Stays]
        case _:
            return []


@pytest.mark.parametrize("place", places(), ids=lambda one: one.where)
def test_every_place_that_logs_says_a_known_word_with_its_fields_at_its_level(place: Place) -> None:
    assert place.words, "no action that a reader of the source finds"
    for word in place.words:
        known = ACTIONS[word]
        assert place.level in (known.level, "log"), word
        assert place.fields <= set(known.fields), word


def test_no_word_is_in_the_table_that_nobody_says() -> None:
    assert ACTIONS.keys() - {logs.LIBRARY} == {word for place in places() for word in place.words}


def test_no_word_is_a_move_too() -> None:
    assert not ACTIONS.keys() & MOVES


def test_the_committed_page_is_the_generated_one() -> None:
    committed = (ROOT / "docs" / "logs.md").read_text()
    assert committed == page(), "run: python -m orchestrator.domain.logs_page > docs/logs.md"
    words = re.findall(r"^\| `(\w+)` \|", committed, re.MULTILINE)
    assert {*words} - {"action"} == {*ACTIONS, *MOVES}


def test_a_library_that_warns_has_the_same_form(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, everything = logging.getLogger("muster"), logging.getLogger()
    for logger in (ours, everything):
        for name in ("handlers", "level", "propagate"):
            monkeypatch.setattr(logger, name, getattr(logger, name))
    everything.handlers = []
    for _ in range(2):  # the second takes the place of the first
        stream = io.StringIO()
        logs.configure("json", "info", stream)
    logging.getLogger("some.library").warning("careful\nnow", stacklevel=1)
    logging.getLogger("some.library").info("not so loud")
    (line,) = stream.getvalue().splitlines()
    said = json.loads(line)
    assert (said["action"], said["logger"], said["message"]) == ("library", "some.library", "careful\nnow")


def test_who_listens_to_libraries_already_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, everything = logging.getLogger("muster"), logging.getLogger()
    for name in ("handlers", "level", "propagate"):
        monkeypatch.setattr(ours, name, getattr(ours, name))
    mine = logging.NullHandler()
    monkeypatch.setattr(everything, "handlers", [mine])
    logs.configure("json", "info", io.StringIO())
    assert everything.handlers == [mine]
