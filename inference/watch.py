"""The thread that ends a rank when its main thread cannot: after a deadline, a cancel, no progress, a failed peer.

It also carries notes between this rank's progress and the board, because both want the same slow tick. Does nothing
while the gang is idle. A main thread that holds the interpreter lock for ever is left to the service's lease.
"""

import faulthandler
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from inference.attempt import Attempt, Life, Stop
from inference.board import Board
from inference.capture import Capture
from inference.faults import TRACEBACK_BYTES, Exit
from inference.leaving import Leaving

TICK_S = 0.25
NOTES_EVERY_S = 1.0
AFTER_THE_CULPRIT_S = 2.0  # a rank that waits in a collective lets the one that it waits for speak first


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """Why this rank has to end, and how."""

    exit: Exit
    type: str
    message: str


class Watch:
    def __init__(self, rank: int, life: Life, board: Board, leaving: Leaving, capture: Capture) -> None:
        self._rank = rank
        self._life = life
        self._board = board
        self._leaving = leaving
        self._capture = capture
        self._published: tuple[Attempt, int] | None = None  # of which attempt, up to which change
        self._noted_at = 0.0
        self._main = threading.main_thread().ident or 0

    def start(self) -> None:
        threading.Thread(target=self._run, name="muster-watch", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(TICK_S)
            attempt = self._life.attempt
            if attempt is None:
                continue
            self._exchange_notes(attempt)
            sentence = judge(attempt, time.monotonic(), waiting=self._waits_for_others())
            if sentence is not None and self._life.attempt is attempt:
                self._end(attempt, sentence)

    def _exchange_notes(self, attempt: Attempt) -> None:
        now = time.monotonic()
        is_new = self._published is None or self._published[0] is not attempt
        if now - self._noted_at < NOTES_EVERY_S and not is_new:
            return
        self._noted_at = now
        with suppress(RuntimeError):  # the store died with rank 0: torchrun will tell
            self._publish(attempt)
            self._read(attempt)

    def _publish(self, attempt: Attempt) -> None:
        reached = (attempt, attempt.progress.changes)
        if reached != self._published:
            self._published = reached
            self._board.publish(attempt.work.attempt, attempt.progress.step, attempt.progress.age_s)
        if self._rank == 0 and attempt.stop is not None:
            self._board.note_stop(attempt.work.attempt)

    def _read(self, attempt: Attempt) -> None:
        if self._rank != 0 and attempt.stop is None and self._board.stopped(attempt.work.attempt):
            attempt.ask_to_stop(Stop.CANCEL)
        if attempt.peer_failed_at is None and self._board.failed(attempt.work.attempt) is not None:
            attempt.peer_failed_at = time.monotonic()

    def _waits_for_others(self) -> bool:
        """Whether the main thread is inside a collective: then another rank is the one that is late."""
        frame = sys._current_frames().get(self._main)
        files = [entry.f_code.co_filename for entry, _ in traceback.walk_stack(frame)] if frame else []
        return any("torch/distributed/" in file for file in files)

    def _end(self, attempt: Attempt, sentence: Sentence) -> None:
        stack = _main_stack(self._main)
        self._capture.write(f"\n[muster: {sentence.message}; all threads of rank {self._rank}:]\n{_all_stacks()}")
        self._leaving.now(sentence.exit, _error(attempt, sentence, stack))


def judge(attempt: Attempt, now: float, *, waiting: bool) -> Sentence | None:
    """Pure but for reading the attempt. `waiting`: this rank is inside a collective."""
    if attempt.at_end:  # left `run`: whoever is still inside is the one to end
        return None
    later = AFTER_THE_CULPRIT_S if waiting else 0.0
    grace = attempt.work.cancel_grace_s + later
    if attempt.stop_at is not None and now > attempt.stop_at + grace:
        return Sentence(exit=Exit.HARD_STOP, type="Hang", message=f"canceled, but no step ended within {grace:g} s")
    if attempt.deadline is not None and now > attempt.deadline + grace:
        message = f"the deadline of {attempt.work.timeout_s:g} s passed, but no step ended within {grace:g} s after it"
        return Sentence(exit=Exit.HARD_STOP, type="Timeout", message=message)
    if attempt.peer_failed_at is not None and now > attempt.peer_failed_at + grace:
        message = f"another rank failed, and this one did not come out of its step within {grace:g} s"
        return Sentence(exit=Exit.POISONED, type="PeerFailed", message=message)
    limit = attempt.work.no_progress_s
    if limit is not None and attempt.progress.age_s > limit + later:
        return Sentence(exit=Exit.NO_PROGRESS, type="NoProgress", message=f"no progress for {limit:g} s")
    return None


def _error(attempt: Attempt, sentence: Sentence, stack: str) -> dict[str, Any]:
    return {
        "attempt": attempt.work.attempt,
        "phase": attempt.progress.phase,
        "step": attempt.progress.current,
        "type": sentence.type,
        "message": sentence.message,
        "traceback": stack,
    }


def _main_stack(main: int) -> str:
    frame = sys._current_frames().get(main)
    return "".join(traceback.format_stack(frame))[-TRACEBACK_BYTES:] if frame else ""


def _all_stacks() -> str:
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()
