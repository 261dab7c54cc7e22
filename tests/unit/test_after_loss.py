"""Recovery: what becomes of a request whose attempt was lost or failed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.recovery import Fail, Retry, Tries, after_loss
from orchestrator.domain.states import FAULTS, Fault, Reason

USER = [reason for reason in Reason if FAULTS[reason] is Fault.USER]
INFRA = [reason for reason in Reason if FAULTS[reason] is Fault.INFRA]


def tries(attempts: int = 1, crashes: int = 0, max_attempts: int = 5, max_crashes: int = 3) -> Tries:
    return Tries(attempts=attempts, max_attempts=max_attempts, crashes=crashes, max_crashes=max_crashes)


def test_every_reason_has_a_fault() -> None:
    assert set(FAULTS) == set(Reason)


@pytest.mark.parametrize("reason", USER)
def test_a_fault_of_the_user_is_final_at_once(reason: Reason) -> None:
    assert after_loss(reason, "it broke", tries()) == Fail(reason=reason, why="it broke")


@pytest.mark.parametrize("reason", INFRA)
def test_a_loss_of_infrastructure_is_tried_again(reason: Reason) -> None:
    assert after_loss(reason, "it went", tries()) == Retry(after=timedelta())


@pytest.mark.parametrize(
    ("used", "after"),
    [
        (tries(attempts=2), Retry(after=timedelta(seconds=1))),
        (tries(attempts=4), Retry(after=timedelta(seconds=4))),
        (tries(attempts=5), Fail(reason=Reason.GANG_LOST, why="it went (attempt 5 of 5, the last)")),
        (tries(max_attempts=1), Fail(reason=Reason.GANG_LOST, why="it went (attempt 1 of 1, the last)")),
        (tries(attempts=3, crashes=2), Retry(after=timedelta(seconds=2))),
    ],
)
def test_the_tries_are_bounded_and_paused(used: Tries, after: Retry | Fail) -> None:
    assert after_loss(Reason.GANG_LOST, "it went", used) == after


def test_a_request_that_keeps_killing_its_gangs_is_poisoned() -> None:
    verdict = after_loss(Reason.RANK_FAILED, "segfault", tries(attempts=3, crashes=3))
    assert isinstance(verdict, Fail) and verdict.reason is Reason.POISONED
    assert "3 times" in verdict.why and "segfault" in verdict.why


@given(st.sampled_from(Reason), st.integers(1, 100), st.integers(0, 100), st.integers(1, 100), st.integers(1, 100))
def test_a_retry_always_leaves_a_try(
    reason: Reason, attempts: int, crashes: int, max_attempts: int, max_crashes: int
) -> None:
    verdict = after_loss(reason, "why", tries(attempts, crashes, max_attempts, max_crashes))
    if isinstance(verdict, Retry):
        assert (
            attempts < max_attempts and crashes < max_crashes and timedelta() <= verdict.after <= timedelta(minutes=1)
        )
