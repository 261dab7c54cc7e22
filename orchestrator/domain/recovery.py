"""What becomes of a request whose attempt was lost or failed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from orchestrator.domain.placement import backoff
from orchestrator.domain.states import FAULTS, Fault, Reason


@dataclass(frozen=True, kw_only=True)
class Tries:
    """What a request has used up, the attempt in question included."""

    attempts: int
    max_attempts: int
    crashes: int
    """Gang crashes while this request was running, this one included."""
    max_crashes: int


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Back to the queue after a pause."""

    after: timedelta


@dataclass(frozen=True, kw_only=True)
class Fail:
    """No other try makes sense."""

    reason: Reason
    why: str


def after_loss(reason: Reason, why: str, tries: Tries) -> Retry | Fail:
    """Retry what infrastructure lost, unless the tries are used up or the request keeps killing its gangs."""
    if FAULTS[reason] is Fault.USER:
        return Fail(reason=reason, why=why)
    if tries.crashes >= tries.max_crashes:
        return Fail(
            reason=Reason.POISONED,
            why=f"was running when its gang crashed, {tries.crashes} times in all; last cause: {why}",
        )
    if tries.attempts >= tries.max_attempts:
        return Fail(reason=reason, why=f"{why} (attempt {tries.attempts} of {tries.max_attempts}, the last)")
    return Retry(after=backoff(tries.attempts))
