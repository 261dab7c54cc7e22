"""The timer: runs each loop on its own thread, at its interval or when its bell rings."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from orchestrator.errors import MusterError
from orchestrator.loops.desk import Report

log = logging.getLogger("muster.loops")

_MOVES = frozenset({"assigned", "drained", "ended", "expired", "failed", "launched", "missed", "placed", "planned"})
"""Verbs of moves, which have log lines of their own."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One duty. After a pass that did something, the bells of `then` ring."""

    name: str
    run_once: Callable[[], Report]
    every: timedelta
    then: tuple[str, ...] = ()
    gap: timedelta = timedelta(milliseconds=20)
    """Between two passes, however often the bell rings: what rings meanwhile shares the next pass."""


class Passed(Protocol):
    """Hears of a pass."""

    def __call__(self, duty: str, seconds: float, *, good: bool) -> None: ...


class Rounds:
    """All duties of one replica."""

    def __init__(self, duties: Sequence[Round], passed: Passed | None = None) -> None:
        """`passed` hears of every pass: duty, seconds, whether it went well."""
        self._passed = passed
        self._stop = threading.Event()
        self._bells = {duty.name: threading.Event() for duty in duties}
        self._threads = [
            threading.Thread(target=self._walk, args=(duty,), name=f"muster-{duty.name}", daemon=True)
            for duty in duties
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def ring(self, name: str) -> None:
        """Let the duty run now. From any thread; unknown names are a defect."""
        self._bells[name].set()

    def stop(self, patience: timedelta = timedelta(seconds=10)) -> None:
        """Let every duty finish its pass."""
        self._stop.set()
        for bell in self._bells.values():
            bell.set()
        for thread in self._threads:
            thread.join(timeout=patience.total_seconds())

    def _walk(self, duty: Round) -> None:
        bell = self._bells[duty.name]
        while not self._stop.is_set():
            bell.clear()
            if self._pass(duty):
                for name in duty.then:
                    self.ring(name)
            self._stop.wait(duty.gap.total_seconds())
            bell.wait(duty.every.total_seconds())

    def _pass(self, duty: Round) -> bool:
        """True if it did something. Nothing that goes wrong in one pass ends the duty."""
        begun = time.monotonic()
        report = self._reported(duty)
        if self._passed is not None:
            self._passed(duty.name, time.monotonic() - begun, good=report is not None)
        return bool(report)

    def _reported(self, duty: Round) -> Report | None:
        """What one pass did; None if it failed."""
        try:
            report = duty.run_once()
        except MusterError as error:
            log.warning("%s: %s", duty.name, error.message, extra={"action": "round_failed", "duty": duty.name})
            return None
        except Exception:
            log.exception("a defect in %s", duty.name, extra={"action": "defect", "duty": duty.name})
            return None
        if report:
            level = logging.DEBUG if report.did.keys() <= _MOVES else logging.INFO
            log.log(level, "did something", extra={"action": "round", "duty": duty.name, **report.did})
        return report
