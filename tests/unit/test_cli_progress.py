"""The progress line: what it says, and how often where nobody can redraw it."""

from __future__ import annotations

import pytest
from rest_fake import CANCELED, COLD, GANG, QUEUED, RUNNING, SUCCEEDED

from orchestrator.cli.progress import PhaseLines, sentence
from orchestrator.client import Request


def request(**fields: object) -> Request:
    return Request.read({"id": "req_1", "is_terminal": False, **fields})


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (QUEUED, "req_1 position 2 of 5"),
        ({"status": "queued"}, "req_1 queued"),
        (COLD, f"req_1 cold start: loading 12 s (cold, gang {GANG}, 4 ranks)"),
        (RUNNING, f"req_1 denoise 17/30 56% eta 0:03 (warm, gang {GANG}, 4 ranks)"),
        ({"status": "running", "phase": "setup"}, "req_1 setup"),
        ({"status": "running", "progress": {"current": 1, "total": 0}}, "req_1 running"),
        ({"status": "running", "progress": {"current": 1, "total": 4}}, "req_1 running 1/4 25%"),
        ({"status": "running", "attempt": 2, "max_attempts": 3}, "req_1 running attempt 2 of 3"),
        ({"status": "running", "placement": {"kind": "cold", "ranks": 1}}, "req_1 running (cold, 1 rank)"),
        (CANCELED, "req_1 canceled"),
        ({"status": "queued", "waiting": "x\x1b[31m\ny"}, "req_1 x\\x1b[31m\\ny"),
    ],
)
def test_one_line_says_where_a_request_is(state: dict[str, object], said: str) -> None:
    assert sentence(request(**state), 12.2) == said


def test_ids_are_shorter_on_a_narrow_terminal() -> None:
    short = "req_1 denoise 17/30 56% eta 0:03 (warm, gang gng_..000g, 4 ranks)"
    assert sentence(request(**RUNNING), 1, width=70) == short
    assert GANG in sentence(request(**RUNNING), 1, width=120)


def test_without_a_terminal_a_phase_is_said_once_and_then_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    view = PhaseLines(now=lambda: now[0])
    for state in (QUEUED, QUEUED, COLD, RUNNING, RUNNING):
        view.show(request(**state))
        now[0] += 1
    now[0] += 30
    view.show(request(**RUNNING))
    view.show(request(**SUCCEEDED))
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in said] == ["position", "cold", "denoise", "denoise"]
    assert said[-1].endswith("[35.0 s]")


def test_a_stage_of_the_cold_start_is_a_change_and_its_seconds_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    view = PhaseLines(now=lambda: 0.0)
    for waiting in ("gang planned for 0 s", "gang planned for 1.5 s", "gang loading for 2 s", "gang loading for 3 s"):
        view.show(request(status="queued", waiting=waiting))
    assert [line.split()[2] for line in capsys.readouterr().err.splitlines()] == ["planned", "loading"]


def test_an_eta_that_shrinks_is_no_change(capsys: pytest.CaptureFixture[str]) -> None:
    view = PhaseLines(now=lambda: 0.0)
    for waiting in ("position 2, eta 2m15s; 1 of 1 gangs busy", "position 1, eta 45 s; 1 of 1 gangs busy"):
        view.show(request(status="queued", waiting=waiting))
    assert len(capsys.readouterr().err.splitlines()) == 1
