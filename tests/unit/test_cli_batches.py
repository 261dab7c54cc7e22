"""How a batch is shown in one line, and what its end means to a shell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click
import pytest

from orchestrator.cli.batch_watching import sentence
from orchestrator.cli.batches import _lines
from orchestrator.cli.exits import ExitCode, of_batch
from orchestrator.cli.orders import asking
from orchestrator.cli.progress import Outage
from orchestrator.cli.session import Session
from orchestrator.client import Batch
from orchestrator.errors import Unavailable


def batch(status: str = "running", **changes: Any) -> Batch:
    counts = dict.fromkeys(("queued", "running", "succeeded", "failed", "canceled", "expired", "refused"), 0)
    document = {"id": "bat_1", "status": status, "is_terminal": False, "counts": {"total": 0, **counts}}
    document["counts"] |= changes.pop("counts", {})
    return Batch.read({**document, **changes})


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (batch("completed", outcome="all_succeeded"), ExitCode.OK),
        (batch("completed", outcome="partial"), ExitCode.PARTIAL),
        (batch("completed", outcome="none_succeeded"), ExitCode.FAILED),
        (batch("canceled", outcome="partial"), ExitCode.CANCELED),
        (batch("expired", outcome="partial"), ExitCode.EXPIRED),
        (batch("failed", outcome="partial", reason_code="max_failed"), ExitCode.FAILED),
        (batch("failed", outcome="none_succeeded", reason_code="no_gang"), ExitCode.INFRA),
        (batch("running"), ExitCode.UNFINISHED),
        (batch("paused"), ExitCode.UNFINISHED),
        (batch("a state of a newer service"), ExitCode.UNFINISHED),
    ],
)
def test_the_exit_code_says_how_a_batch_ended(found: Batch, code: ExitCode) -> None:
    assert of_batch(found) is code


def test_a_line_shows_how_far_how_fast_and_how_long() -> None:
    found = batch(counts={"total": 1000, "succeeded": 509, "failed": 3}, rate_per_s=4.18, eta_s=117.0, gangs=2)
    assert sentence(found) == "bat_1 running [##########----------] 512/1000 51%, 3 failed, 4.2/s, eta 1:57, 2 gangs"


def test_a_line_says_nothing_that_is_not_known() -> None:
    assert sentence(batch("validating")) == "bat_1 validating"


def test_a_paused_batch_says_why_and_how_it_goes_on() -> None:
    found = batch("paused", reason="4 items failed", counts={"total": 10, "failed": 4})
    assert sentence(found).endswith("40%, 4 failed, 4 items failed; to go on: muster batch resume bat_1")


def test_a_line_obeys_no_control_characters() -> None:
    assert "\x1b" not in sentence(batch("run\x1b[2Jning"))


RUNS = {"counts": {"total": 1000, "succeeded": 509, "failed": 3}, "rate_per_s": 4.18, "eta_s": 117.0, "gangs": 2}
LONG = "bat_01m8bwfp6f6pssk7gsrs1zchk3"


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (0, f"{LONG} running [##########----------] 512/1000 51%, 3 failed, 4.2/s, eta 1:57, 2 gangs"),
        (95, "bat_..chk3 running [##########----------] 512/1000 51%, 3 failed, 4.2/s, eta 1:57, 2 gangs"),
        (80, "bat_..chk3 running [#####-----] 512/1000 51%, 3 failed, 4.2/s, eta 1:57, 2 gangs"),
        (70, "bat_..chk3 running 512/1000 51%, 3 failed, 4.2/s, eta 1:57, 2 gangs"),
    ],
)
def test_on_a_narrow_terminal_the_figures_stay_and_the_bar_gives_way(width: int, said: str) -> None:
    assert sentence(Batch.read({**batch(**RUNS).raw, "id": LONG}), width=width) == said


def test_before_anything_runs_a_line_says_what_the_first_item_waits_for() -> None:
    found = batch("queued", counts={"total": 10, "queued": 10}, gangs=1)
    assert sentence(found, "cold start: setup, 9 s", width=45) == "bat_1 queued 0/10 0%, cold start: setup, 9 s"


@pytest.mark.parametrize(("per_s", "told"), [(4.18, "4.2/s"), (0.6, "0.6/s"), (0.05, "3.0/min"), (0.001, "3.6/h")])
def test_slow_items_are_counted_by_the_minute_or_hour(per_s: float, told: str) -> None:
    assert sentence(batch(rate_per_s=per_s)) == f"bat_1 running, {told}"


def test_an_outage_is_spoken_of_when_it_begins_and_when_it_is_over() -> None:
    notes: list[str] = []
    outage = Outage(notes.append)
    for away in (False, True, True, False, False):
        outage.begun(Unavailable("it does not answer")) if away else outage.over()
    assert notes == ["it does not answer\nstill trying", "the service answers again"]


def test_ctrl_c_before_the_lines_have_ended_says_that_nothing_was_recorded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=SimpleNamespace(read=_interrupted)))
    with pytest.raises(click.exceptions.Exit) as ended, _lines(Session(), "-"):
        pass
    assert ended.value.exit_code == ExitCode.INTERRUPTED and "nothing was recorded" in capsys.readouterr().err


def test_ctrl_c_before_the_answer_names_the_key_to_ask_again(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.exceptions.Exit) as ended, asking(Session(), "k7"):
        _interrupted()
    assert ended.value.exit_code == ExitCode.INTERRUPTED and "--idempotency-key k7" in capsys.readouterr().err


def _interrupted(*_: object) -> bytes:
    raise KeyboardInterrupt
