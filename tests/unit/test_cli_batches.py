"""How a batch is shown in one line, and what its end means to a shell."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cli.batch_watching import sentence
from orchestrator.cli.exits import ExitCode, of_batch
from orchestrator.client import Batch


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
