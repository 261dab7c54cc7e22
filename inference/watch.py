"""The thread that ends a rank when its main thread cannot: after a deadline, a cancel, no progress, a failed peer.

It also carries notes between this rank's progress and the board, because both want the same slow tick; none while the
gang is idle. Before a rank ends for standing still, it gathers the stacks of all: each watch thread gives its
own rank's, and those of neighbours whose main thread holds the interpreter lock from the file that C code wrote. So any
rank can name the one that holds the gang up, even where that one cannot speak.
"""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from inference.attempt import Attempt, Life, Stop
from inference.board import Board
from inference.capture import Capture
from inference.faults import Code, Exit
from inference.gpu import Gpu
from inference.kin import Kin
from inference.leaving import Leaving
from inference.stacks import Stack, complete, culprit, shown, waits_for_others
from inference.words import LastWords

TICK_S = 0.25
NOTES_EVERY_S = 1.0
AFTER_THE_CULPRIT_S = 2.0  # a rank that waits in a collective lets the one that it waits for speak first
PEER_GRACE_S = 5.0  # for a rank that waits for one that failed: a short timeout of its collective may free it
DEAF_AFTER_S = 3.0  # without the interpreter lock for so long, the C thread writes the stacks down
GATHER_S = 3.0  # for the stacks of the other ranks
SPEAK_FOR_OTHERS_AFTER_S = 1.5
DEAF_LEADER = 0.6  # of the lease: rank 0 cannot beat, so the service will end the gang without knowing why


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """Why this rank has to end, and how."""

    exit: Exit
    type: str
    message: str
    code: Code = Code.RANK_FAILED


@dataclass(frozen=True, kw_only=True)
class Me:
    """`rank` in the gang, one of the `ranks` of its replica, which the first of them leads."""

    rank: int
    node: str
    ranks: range
    lease_s: float

    @property
    def leader(self) -> int:
        return self.ranks.start

    @property
    def leads(self) -> bool:
        return self.rank == self.leader


class Watch:
    def __init__(
        self,
        me: Me,
        life: Life,
        board: Board,
        leaving: Leaving,
        capture: Capture,
        words: LastWords,
        kin: Kin,
        gpu: Gpu,
    ) -> None:
        self._me = me
        self._life = life
        self._board = board
        self._leaving = leaving
        self._capture = capture
        self._words = words
        self._kin = kin
        self._gpu = gpu
        self._published: Attempt | None = None
        self._noted_at = 0.0
        self._asked: tuple[Attempt, float] | None = None  # since when stacks are wanted
        self._gave: set[int] = set()

    def start(self) -> None:
        threading.Thread(target=self._run, name="muster-watch", daemon=True).start()

    def _run(self) -> None:
        armed_at = float("-inf")
        while True:
            if time.monotonic() - armed_at >= NOTES_EVERY_S:
                armed_at = time.monotonic()
                self._words.arm(DEAF_AFTER_S)
            time.sleep(TICK_S)
            attempt = self._life.attempt
            if attempt is None:
                continue
            self._exchange_notes(attempt)
            sentence = judge(attempt, time.monotonic(), waiting=self._waits(attempt))
            if sentence is not None and self._life.attempt is attempt:
                self._end(attempt, sentence)

    def _waits(self, attempt: Attempt) -> bool:
        """For other ranks: in a collective, or for a GPU that may be in one. The GPU is asked only where it matters."""
        if waits_for_others():
            return True
        troubled = attempt.peer_failed_at is not None or judge(attempt, time.monotonic(), waiting=False) is not None
        return troubled and self._gpu.is_busy()

    def _exchange_notes(self, attempt: Attempt) -> None:
        now = time.monotonic()
        if now - self._noted_at < NOTES_EVERY_S and self._published is attempt:
            return
        self._noted_at, self._published = now, attempt
        with suppress(RuntimeError):  # the store died with rank 0: torchrun will tell
            self._publish(attempt)
            self._read(attempt)
            self._give_stacks(attempt)

    def _publish(self, attempt: Attempt) -> None:
        """Again and again, also where nothing moved: the age in it says that this thread lives."""
        self._board.publish(attempt.work.attempt, attempt.progress.step, attempt.progress.age_s)
        if self._me.leads and attempt.stop is not None:
            self._board.note_stop(attempt.work.attempt)

    def _read(self, attempt: Attempt) -> None:
        name = attempt.work.attempt
        if not self._me.leads and attempt.stop is None and self._board.stopped(name):
            attempt.ask_to_stop(Stop.CANCEL)
        if attempt.peer_failed_at is None and self._board.failed(name) is not None:
            attempt.peer_failed_at = time.monotonic()
        bound_s = DEAF_LEADER * self._me.lease_s
        if attempt.leased and not self._me.leads and time.monotonic() - attempt.began > bound_s:
            attempt.leader_deaf = self._board.silent_s(self._me.leader) > bound_s

    # --- stacks ---

    def _give_stacks(self, attempt: Attempt) -> None:
        """Once asked, this rank's at once; a moment later those of neighbours that cannot give theirs."""
        if self._asked is None or self._asked[0] is not attempt:
            if not self._board.wants_stacks(attempt.work.attempt):
                return
            self._asked, self._gave = (attempt, time.monotonic()), set()
        if self._me.rank not in self._gave:
            self._gave.add(self._me.rank)
            self._board.give_stack(attempt.work.attempt, self._me.rank, self._stack(attempt).as_json())
        if time.monotonic() - self._asked[1] >= SPEAK_FOR_OTHERS_AFTER_S:
            self._speak_for_the_deaf(attempt.work.attempt)

    def _speak_for_the_deaf(self, attempt: str) -> None:
        given = self._board.stacks(attempt)
        for rank in set(self._kin.ranks).intersection(self._me.ranks) - set(given) - self._gave:
            if written := self._kin.words_of(rank):
                self._gave.add(rank)
                stack = Stack(rank=rank, node=self._me.node, text=written, deaf=True)
                self._board.give_stack(attempt, rank, stack.as_json())

    def _stack(self, attempt: Attempt) -> Stack:
        progress = attempt.progress
        return Stack.of_main_thread(
            rank=self._me.rank,
            node=self._me.node,
            phase=progress.phase,
            step=progress.current,
            gpu_busy=self._gpu.is_busy(),
        )

    def _gather(self, attempt: Attempt) -> list[Stack]:
        """Of every rank that spoke or was spoken for within the bound; of all others that they were deaf."""
        mine = self._stack(attempt)
        found: dict[int, Stack] = {}
        with suppress(RuntimeError):
            self._board.ask_for_stacks(attempt.work.attempt)
            until = time.monotonic() + GATHER_S
            while len(found) < len(self._me.ranks) and time.monotonic() < until:
                self._give_stacks(attempt)
                found = {rank: Stack.read(note) for rank, note in self._board.stacks(attempt.work.attempt).items()}
                time.sleep(TICK_S / 2)
        return complete({**found, self._me.rank: mine}, self._me.ranks)

    def _end(self, attempt: Attempt, sentence: Sentence) -> None:
        self._capture.write(f"\n[muster: {sentence.message}; the stacks of all ranks are with the error]\n")
        stacks = self._gather(attempt)
        error = _error(attempt, sentence, stacks)
        self._leaving.tell(error)
        for rank in {stack.rank for stack in stacks if stack.deaf} & set(self._kin.ranks):
            self._kin.end(rank)
        self._leaving.now(sentence.exit)


def judge(attempt: Attempt, now: float, *, waiting: bool) -> Sentence | None:
    """Pure but for reading the attempt. `waiting`: this rank is inside a collective."""
    if attempt.at_end:  # left `run`: whoever is still inside is the one to end
        return None
    later = AFTER_THE_CULPRIT_S if waiting else 0.0
    if attempt.bound_s is not None and now > attempt.began + attempt.bound_s + later:
        message = f"{attempt.work.attempt} took longer than {attempt.bound_s:g} s"
        return Sentence(exit=Exit.SETUP_FAILED, type="Hang", message=message, code=Code.NO_PROGRESS)
    grace = attempt.work.cancel_grace_s + later
    if attempt.stop_at is not None and now > attempt.stop_at + grace:
        return Sentence(exit=Exit.HARD_STOP, type="Hang", message=f"canceled, but no step ended within {grace:g} s")
    if attempt.deadline is not None and now > attempt.deadline + grace:
        message = f"the deadline of {attempt.work.timeout_s:g} s passed, but no step ended within {grace:g} s after it"
        return Sentence(exit=Exit.HARD_STOP, type="Timeout", message=message, code=Code.TIMEOUT)
    mercy = min(grace, PEER_GRACE_S + later) if waiting else grace
    if attempt.peer_failed_at is not None and now > attempt.peer_failed_at + mercy:
        message = f"another rank failed, and this one did not come out of its step within {mercy:g} s"
        return Sentence(exit=Exit.POISONED, type="PeerFailed", message=message)
    limit = attempt.work.no_progress_s
    if limit is not None and attempt.progress.age_s > limit + later:
        message = f"no progress for {limit:g} s"
        return Sentence(exit=Exit.NO_PROGRESS, type="NoProgress", message=message, code=Code.NO_PROGRESS)
    if attempt.leader_deaf:
        message = "no thread of the first rank runs: something in it holds the interpreter lock"
        return Sentence(exit=Exit.NO_PROGRESS, type="NoProgress", message=message, code=Code.NO_PROGRESS)
    return None


def _error(attempt: Attempt, sentence: Sentence, stacks: list[Stack]) -> dict[str, Any]:
    """About the rank that holds the others up. Who follows a failed peer is not blamed for that."""
    late = culprit(stacks)
    held = "; it holds the interpreter lock" if late.deaf and late.text else ""
    where = f"at step {late.step}" if attempt.leased else f"in {attempt.work.attempt}"
    return {
        "rank": late.rank,
        "node": late.node,
        "attempt": attempt.leased,
        "phase": (late.phase or attempt.progress.phase) if attempt.leased else attempt.work.attempt,
        "step": late.step,
        "type": sentence.type,
        "message": f"{sentence.message}: rank {late.rank} holds the gang up {where}{held}",
        "traceback": late.text,
        "code": sentence.code,
        "stacks": shown(stacks),
    }
