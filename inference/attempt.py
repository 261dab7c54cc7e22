"""One attempt as the threads of one rank see it: how far it is, whether it is to stop, how the ranks agreed to end it.

Plain state. The main thread moves it, the beat and watch threads read it and may ask it to stop; single attribute
writes, so no lock. Knows no HTTP and no process groups.
"""

import time
from enum import StrEnum
from typing import Any

from inference.vote import STRIDES, Verdict
from inference.work import Work

MOST_PHASES = 128  # that are told apart
LONGEST_NAME = 100  # of a phase, as the service is told it
VOTE_EVERY_S = 0.005  # steps shorter than this are voted on in groups


class Stop(StrEnum):
    CANCEL = "cancel"
    REVOKED = "revoked"  # like cancel, but nothing is reported


class Progress:
    """Where this rank is. `step` counts over all phases; `current` of `total` is within the phase."""

    def __init__(self) -> None:
        self.phase = "run"
        self.current = 0
        self.total: int | None = None
        self.step = 0
        self.changes = 0
        self.moved_at = time.monotonic()
        self.entered: list[tuple[str, float]] = [("run", self.moved_at)]
        """Phases, and when each began by the monotonic clock."""

    def enter(self, phase: str, total: int | None = None) -> None:
        if phase != self.phase and len(self.entered) < MOST_PHASES:
            self.entered.append((phase, time.monotonic()))
        self.phase, self.current, self.total = phase, 0, total
        self.touch()

    def reach(self, current: int, total: int | None) -> None:
        self.current, self.total = current, total
        self.touch()

    def touch(self) -> None:
        self.moved_at = time.monotonic()
        self.changes += 1

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.moved_at

    def trail(self) -> dict[str, Any]:
        """The phases so far, each with its begin in seconds from the first's; `elapsed_s` is now."""
        entered = list(self.entered)
        began = entered[0][1]
        phases = [(_plain(name), round(at - began, 4)) for name, at in entered]
        return {"elapsed_s": round(time.monotonic() - began, 4), "phases": phases}


def _plain(name: str) -> str:
    """What the service takes: a phase's name must not cost the request."""
    return name[:LONGEST_NAME].replace("\0", "?").encode("utf-8", "replace").decode()


class Cadence:
    """Every how many steps the ranks vote. Follows from the votes alone, so it is the same on every rank."""

    def __init__(self) -> None:
        self.stride = 1
        self._since_vote = 0
        self._voted_at = time.monotonic()

    def due(self) -> bool:
        """Called once per step boundary."""
        self._since_vote += 1
        return self._since_vote >= self.stride

    def wish(self, now: float) -> int:
        """The stride that this rank's own clock asks for; the widest wish of all ranks wins the vote."""
        step_s = (now - self._voted_at) / max(self._since_vote, 1)
        return max(stride for stride in STRIDES if stride == 1 or stride * step_s <= VOTE_EVERY_S)

    def agree(self, widest: int, now: float) -> None:
        """Grows by doubling, shrinks at once: steps may become slow, and a cancel must not wait for many of them."""
        self.stride = min(widest, self.stride * 2)
        self._since_vote = 0
        self._voted_at = now


class Attempt:
    """`bound_s`: a phase of the gang's start, which nobody leased and which must end within so many seconds."""

    def __init__(self, work: Work, bound_s: float | None = None) -> None:
        self.work = work
        self.bound_s = bound_s
        self.began = time.monotonic()
        self.progress = Progress()
        self.stop: Stop | None = None
        self.stop_at: float | None = None
        self.peer_failed_at: float | None = None
        self.leader_deaf = False  # rank 0 has given no sign for most of the lease
        self.verdict: Verdict | None = None  # set by the vote that ended it; no vote comes after that one
        self.at_end = False  # this rank has left `run` and only waits for the others

    def ask_to_stop(self, stop: Stop) -> None:
        """From the beat (rank 0) or the board (the others). The first cancel starts the grace."""
        if self.stop is not Stop.REVOKED:
            self.stop = stop
        if self.stop_at is None:
            self.stop_at = time.monotonic()

    @property
    def leased(self) -> str | None:
        """Its ID, if the service knows it."""
        return self.work.attempt if self.bound_s is None else None

    @property
    def deadline(self) -> float | None:
        return None if self.work.timeout_s is None else self.began + self.work.timeout_s

    @property
    def overdue(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline


class Life:
    """What the rank is doing now: `loading` (also in a phase of the start), `idle` or `busy` with an attempt."""

    def __init__(self) -> None:
        self.loaded = False
        self.left = False  # nobody will ask for work any more: a beat would say otherwise
        self.attempt: Attempt | None = None

    def now(self) -> dict[str, Any]:
        """As a rank-error says it."""
        attempt = self.leased
        if attempt is None:
            return {"attempt": None, "phase": self.phase, "step": 0}
        return {"attempt": attempt.work.attempt, "phase": attempt.progress.phase, "step": attempt.progress.current}

    @property
    def starting(self) -> str | None:
        """The phase of the start that this rank is in."""
        attempt = self.attempt
        return attempt.work.attempt if attempt is not None and not attempt.leased else None

    @property
    def phase(self) -> str:
        if self.leased is not None:
            return "busy"
        return "idle" if self.loaded else "loading"

    @property
    def leased(self) -> Attempt | None:
        """What the service knows of."""
        attempt = self.attempt
        return attempt if attempt is not None and attempt.leased else None
