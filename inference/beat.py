"""The thread on rank 0 (of each replica) that keeps the leases of the incarnation alive and brings cancels in.

Its own thread and connection: the main thread may be in a collective or in a long poll. Decides nothing: it asks the
attempt to stop, and the ranks agree on that at their next step.
"""

import threading
import time
from contextlib import suppress
from typing import Any

from inference.attempt import Attempt, Life, Stop
from inference.board import Board
from inference.leaving import Leaving, code_of
from inference.service import Over, Refused, Service, Stale, Unreachable

TICK_S = 0.25
FIRST_BEAT_S = 0.3  # of an attempt: a shorter one finishes without a beat
LOOK_EVERY_S = 1.0  # at the board, while busy: the ages of the ranks' steps are as exact as this


class Beat:
    def __init__(self, service: Service, life: Life, board: Board, leaving: Leaving, every_s: float) -> None:
        self._service = service
        self._life = life
        self._board = board
        self._leaving = leaving
        self._every_s = every_s
        self._named: Attempt | None = None  # the attempt of the last beat
        self._starting: str | None = None  # the phase of the start that it told
        self._ranks: list[dict[str, Any]] = []

    def start(self) -> None:
        threading.Thread(target=self._run, name="muster-beat", daemon=True).start()

    def _run(self) -> None:
        beaten_at = looked_at = float("-inf")
        while not self._life.left:
            now = time.monotonic()
            attempt = self._life.leased
            due = now - beaten_at >= self._every_s or self._is_new(attempt, now) or self._goes_on_starting()
            if attempt is not None and (due or now - looked_at >= LOOK_EVERY_S):
                looked_at = now
                self._look(attempt)
            if due:
                beaten_at = now
                self._beat(attempt)
            time.sleep(TICK_S)

    def _is_new(self, attempt: Attempt | None, now: float) -> bool:
        return attempt is not None and attempt is not self._named and now - attempt.began >= FIRST_BEAT_S

    def _goes_on_starting(self) -> bool:
        """Whether a start entered its next phase: people watch it."""
        return self._life.starting not in (None, self._starting)

    def _look(self, attempt: Attempt) -> None:
        with suppress(RuntimeError):  # the beat still says that rank 0 lives
            self._ranks = self._board.ranks(attempt.work.attempt)

    def _memory(self) -> dict[int, list[int]]:
        with suppress(RuntimeError):
            return self._board.memory()
        return {}

    def _beat(self, attempt: Attempt | None) -> None:
        self._named, self._starting = attempt, self._life.starting
        ranks = with_memory(self._ranks if attempt else [], self._memory())
        body = {"phase": self._life.phase, "ranks": ranks, "attempts": [_line(attempt)] if attempt else []}
        if self._starting is not None:
            body["starting"] = self._starting
        try:
            answer = self._service.beat(body, give_up_s=self._every_s)
        except Over as error:
            print(f"muster: {error}", flush=True)  # noqa: T201 (the rank's log)
            self._leaving.now(code_of(error))
        except (Unreachable, Stale, Refused):
            return
        if attempt is not None:
            _obey(attempt, answer.get("attempts", {}).get(attempt.work.attempt, "continue"))


def with_memory(ranks: list[dict[str, Any]], memory: dict[int, list[int]]) -> list[dict[str, Any]]:
    """The lines of a beat; idle ranks have one for their memory alone."""
    lines = {line["rank"]: line for line in ranks} | {
        rank: {"rank": rank} for rank in memory if not any(line["rank"] == rank for line in ranks)
    }
    for rank, (rss, grown) in memory.items():
        lines[rank] = {**lines[rank], "rss_bytes": rss, "grown_bytes": grown}
    return [lines[rank] for rank in sorted(lines)]


def _line(attempt: Attempt) -> dict[str, Any]:
    progress = attempt.progress
    return {
        "attempt": attempt.work.attempt,
        "token": attempt.work.token,
        "phase": progress.phase,
        "current": progress.current,
        "total": progress.total,
        "trail": progress.trail(),
    }


def _obey(attempt: Attempt, word: str) -> None:
    match word:
        case "cancel":
            attempt.ask_to_stop(Stop.CANCEL)
        case "revoked":
            attempt.ask_to_stop(Stop.REVOKED)
