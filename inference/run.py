"""One attempt on one rank, from the input to an ending that all ranks agree on. The same code on every rank.

Collective: every rank that runs an attempt votes exactly once on its end. Publishing and reporting are rank 0's, in
`serve`.
"""

import gc
import json
import resource
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pydantic
import torch

from inference.attempt import Attempt, Life
from inference.board import Board
from inference.context import Context
from inference.control import REPORT_BYTES, Control
from inference.faults import Code, ControlBroken, Fault, InvalidInput, Stopped, root_cause
from inference.gpu import Gpu
from inference.groups import DataGroups
from inference.handler import Handler
from inference.leaving import Leaving
from inference.vote import Say, Verdict
from inference.watch import PEER_GRACE_S
from inference.work import encode


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How `run` ended on the gang. `value` is rank 0's. Not `healthy`: the gang needs a restart."""

    outcome: Outcome
    value: dict[str, Any] | None = None
    fault: Fault | None = None
    healthy: bool = True
    run_s: float = 0.0


@dataclass(kw_only=True)
class Runner:
    handler: Handler[Any]
    context: Context
    control: Control
    groups: DataGroups
    gpu: Gpu
    board: Board
    leaving: Leaving
    life: Life
    first_bytes: int = 0  # of memory after the first request

    def run(self, attempt: Attempt) -> Ending:
        self.life.attempt = attempt
        self.context._begin(attempt)
        value, fault = self._call(attempt)
        attempt.at_end = True
        verdict = attempt.verdict or self.control.vote(Say.FAILED if fault else Say.DONE)
        run_s = time.monotonic() - attempt.began
        if verdict.all_done:
            return Ending(outcome=Outcome.SUCCEEDED, value=value, run_s=run_s)
        return self._settle(attempt, verdict, fault, run_s)

    def rest(self) -> None:
        """After the ending was dealt with."""
        self.context._end()
        self.gpu.forget()
        self.life.attempt = None
        self._weigh()

    def _weigh(self) -> None:
        """What the request left in memory. The first one is the measure: it loads what every later one uses."""
        held = resident_bytes()
        self.first_bytes = self.first_bytes or held
        with suppress(RuntimeError):
            self.board.note_memory(held, max(0, held - self.first_bytes))

    def _call(self, attempt: Attempt) -> tuple[dict[str, Any] | None, Fault | None]:
        """The handler's value on rank 0, or why it gave none. Agreed stops are neither: the verdict says all."""
        try:
            value = self.handler.run(self.context, self._read_input(attempt))
            return (_checked(value) if self.control.rank == 0 else None), None
        except Stopped as stopped:
            _forget(stopped)
            return None, None
        except ControlBroken:  # a peer is gone: who knows which one says so, and it is nobody's error here
            raise
        except BaseException as error:  # SystemExit of a script too: the gang outlives it
            if attempt.verdict is not None:  # an error while cleaning up after an agreed stop
                _forget(error)
                return None, None
            return None, self._note(attempt, error)

    def _read_input(self, attempt: Attempt) -> Any:
        """A file that the input names is there as the path of this node's copy."""
        values = {**attempt.work.input, **self.context._localise()}
        model = self.handler.Input
        if model is None:
            return values
        try:
            return model.model_validate(values)
        except pydantic.ValidationError as error:
            raise InvalidInput(str(error)) from None

    def _note(self, attempt: Attempt, error: BaseException) -> Fault:
        """Known to the service and to the peers' watch threads before the vote: they may never come to it."""
        fault = Fault.of(
            error,
            rank=self.context.gang_rank,
            node=self.context.node,
            phase=attempt.progress.phase,
            step=attempt.progress.current,
        )
        _forget(error)
        if fault.code == Code.INVALID_INPUT:  # the same on every rank, and no surprise to anyone
            return fault
        attempt.at_end = True
        with suppress(RuntimeError):  # the store died with rank 0
            self.board.note_failed(attempt.work.attempt)
        if not fault.communication:  # who broke it is for others to say; and first come first served
            self.leaving.say(_as_rank_error(attempt, fault))
        return fault

    def _settle(self, attempt: Attempt, verdict: Verdict, fault: Fault | None, run_s: float) -> Ending:
        calm = self._calm_down(attempt, verdict)
        match verdict.highest:
            case Say.CANCEL:
                return Ending(outcome=Outcome.CANCELED, healthy=calm, run_s=run_s)
            case Say.TIMEOUT:
                fault = self._own(attempt, _DEADLINE)
                return Ending(outcome=Outcome.FAILED, fault=fault, healthy=calm, run_s=run_s)
            case Say.FAILED:
                faults = self._exchange(fault)
            case _:
                faults = [self._diverged(attempt)]
        cause = root_cause(faults)
        broken = self.groups.fragile and any(each.communication for each in faults)
        return Ending(
            outcome=Outcome.FAILED,
            fault=cause,
            healthy=calm and self._recover(broken),
            run_s=run_s,
        )

    def _calm_down(self, attempt: Attempt, verdict: Verdict) -> bool:
        """Gives back what the request held. False, on all ranks alike: on some GPU a collective stands for ever."""
        agreed = verdict.highest in (Say.CANCEL, Say.TIMEOUT)  # then only the last step is outstanding
        grace = attempt.work.cancel_grace_s
        done = self.gpu.is_done_within(grace if agreed else min(grace, PEER_GRACE_S))
        if self.groups.fragile and not self.control.vote(Say.DONE if done else Say.FAILED).all_done:
            return False
        _clean_up()
        return True

    def _exchange(self, fault: Fault | None) -> list[Fault]:
        """Every rank learns every fault, so that all take the same way from here."""
        reports = self.control.exchange(_report(fault))
        return [Fault(**json.loads(report)) for report in reports if report]

    def _recover(self, broken: bool) -> bool:
        """Fresh groups on all ranks, or on none: one more vote says whether every rank made it."""
        recovered = not broken and self.groups.recover()
        return self.control.vote(Say.DONE if recovered else Say.FAILED).all_done

    def _diverged(self, attempt: Attempt) -> Fault:
        """About the first rank that had left the loop while others were at a step. The same on every rank."""
        own = self._own(attempt, _DIVERGED)
        left = attempt.verdict is None
        told = [json.loads(report) for report in self.control.exchange(encode({**asdict(own), "left": left}))]
        first = next((one for one in told if one["left"]), told[0])
        del first["left"]
        return Fault(**first)

    def _own(self, attempt: Attempt, what: tuple[Code, str, str]) -> Fault:
        code, kind, message = what
        return Fault(
            code=code,
            type=kind,
            message=message.format(timeout_s=attempt.work.timeout_s),
            rank=self.context.gang_rank,
            node=self.context.node,
            phase=attempt.progress.phase,
            step=attempt.progress.current,
        )


_DEADLINE = (Code.TIMEOUT, "TimedOut", "the deadline of {timeout_s} s passed")
_DIVERGED = (
    Code.HANDLER_ERROR,
    "Diverged",
    "the ranks took different numbers of steps: every rank must walk the same ctx.steps() loops",
)


def _checked(value: Any) -> dict[str, Any] | None:
    """Before the vote: a value that JSON cannot hold is the handler's error, not the gang's."""
    if value is not None and not isinstance(value, dict):
        raise TypeError(f"run must return a dict or None, not {type(value).__name__}")
    encode(value)
    return value


def _as_rank_error(attempt: Attempt, fault: Fault) -> dict[str, Any]:
    return {
        "attempt": attempt.leased,
        "phase": fault.phase if attempt.leased else attempt.work.attempt,
        "step": fault.step,
        "type": fault.type,
        "message": fault.message,
        "traceback": fault.traceback,
        "code": fault.code,
        "exiting": False,
    }


def _report(fault: Fault | None) -> bytes:
    if fault is None:
        return b""
    whole = encode(asdict(fault))
    if len(whole) <= REPORT_BYTES - 4:
        return whole
    # JSON escapes can make text six times as long
    return encode({**asdict(fault), "traceback": fault.traceback[-500:], "message": fault.message[:500]})


def _forget(error: BaseException) -> None:
    """Frames of a failed run hold its tensors."""
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None


def resident_bytes() -> int:
    """Of host memory. 0 where the system does not tell."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def _clean_up() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
