"""The service's own log: one line per record, stable words, nothing secret, nothing that a terminal obeys."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import logs
from orchestrator.domain.moved import Moved
from orchestrator.domain.states import GANG_MOVES, REQUEST_MOVES
from orchestrator.errors import Invalid
from orchestrator.settings import Settings

NASTY = 'a\nb\r\x1b[2J\u202e"}\x00\x9b'
MOVED = Moved(
    move="assign",
    state="assigned",
    tenant="default",
    template="digits",
    request="req_1",
    gang="gng_1",
    attempt="att_1",
    incarnation=2,
    seconds=1.23456,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger("muster")
    before = root.handlers, root.level, root.propagate
    yield
    root.handlers, root.level, root.propagate = before[0], before[1], before[2]


def written(form: logs.Form = "json", level: str = "info", **extra: Any) -> str:
    stream = io.StringIO()
    logs.configure(form, level, stream)
    logging.getLogger("muster.test").info("say %s", NASTY, extra=extra)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_record_is_one_line_whatever_stands_in_it(form: logs.Form) -> None:
    line = written(form, action="test", odd=NASTY)
    assert line.count("\n") == 1 and line.endswith("\n")
    assert not set(line[:-1]) & {"\r", "\x1b", "\u202e", "\x00", "\x9b"}


def test_a_json_line_holds_every_extra_as_a_field() -> None:
    line = json.loads(written(action="test", odd=NASTY))
    assert (line["action"], line["odd"], line["level"], line["logger"]) == ("test", NASTY, "info", "muster.test")
    assert line["message"] == f"say {NASTY}" and line["at"].endswith("Z")


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "secret",
    [
        "mst_abcDEF123-_x",
        "postgresql+psycopg2://muster:hunter2@db/muster",
        "Authorization: Bearer hunter2",
        "whsec_aHVudGVyMg==",
    ],
)
def test_what_looks_like_a_credential_is_masked(form: logs.Form, secret: str) -> None:
    stream = io.StringIO()
    logs.configure(form, "info", stream)
    try:
        raise ValueError(f"cannot use {secret}")
    except ValueError:
        logging.getLogger("muster.test").exception("with %s", secret, extra={"action": "test", "url": secret})
    assert "hunter2" not in stream.getvalue()
    assert "abcDEF" not in stream.getvalue() and "aHVudGVyMg" not in stream.getvalue()
    assert stream.getvalue().count("***") >= 3


def test_a_move_is_one_line_with_its_name_and_ids() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    logs.tell([MOVED.line(), MOVED.line()])
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first == second
    assert {key: first[key] for key in first if key != "at"} == {
        "level": "info",
        "action": "assign",
        "state": "assigned",
        "tenant": "default",
        "template": "digits",
        "request": "req_1",
        "gang": "gng_1",
        "attempt": "att_1",
        "incarnation": 2,
        "seconds": 1.235,
    }


def test_the_names_of_moves_are_the_actions_and_no_two_machines_share_one() -> None:
    assert not REQUEST_MOVES.keys() & GANG_MOVES.keys()


def test_moves_are_text_on_a_terminal_and_json_elsewhere() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    logs.configure("auto", "info", terminal)
    logs.tell([MOVED.line()])
    logs.configure("auto", "info", pipe)
    logs.tell([MOVED.line()])
    assert "assign     state=assigned tenant=default" in terminal.getvalue()
    assert json.loads(pipe.getvalue())["action"] == "assign"


def test_moves_are_not_told_above_their_level() -> None:
    stream = io.StringIO()
    logs.configure("json", "warning", stream)
    logs.tell([MOVED.line()])
    assert stream.getvalue() == ""


def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    stream.close()
    logs.tell([MOVED.line()])


@pytest.mark.parametrize(("variable", "value"), [("MUSTER_LOG", "xml"), ("MUSTER_LOG_LEVEL", "loud")])
def test_an_unknown_format_or_level_is_refused_with_what_there_is(variable: str, value: str) -> None:
    with pytest.raises(Invalid, match=f"{variable}='{value}': there are"):
        Settings.from_env({variable: value, "MUSTER_HOME": "/nowhere"})
