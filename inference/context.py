"""What a handler sees of the gang: who it is, the groups to compute on, and how to say how far it is.

One per rank and incarnation; the parts about a request are valid during `run`. Does not import torch, so that a handler
module can be read without it.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from inference.attempt import Attempt, Cadence
from inference.checkpoint import CANDIDATES, CheckpointFailed, Checkpoints
from inference.environment import Environment
from inference.faults import Canceled, PeerFailed, TimedOut
from inference.inputs import BrokenOff, Inputs
from inference.publish import Outputs
from inference.vote import Say, Verdict

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

    from inference.control import Control
    from inference.gpu import Gpu
    from inference.groups import DataGroups

T = TypeVar("T")


class Context:
    """Of a gang with several replicas: `rank`, `world`, `local_rank` and all groups are those of this rank's own."""

    rank: int
    world: int
    local_rank: int
    replica: int
    replicas: int
    gang_rank: int
    node: str
    device: "torch.device"
    args: dict[str, Any]

    def __init__(
        self,
        environment: Environment,
        args: dict[str, Any],
        device: "torch.device",
        control: "Control",
        groups: "DataGroups",
        gpu: "Gpu",
    ) -> None:
        own = environment.replica
        self.rank, self.world, self.local_rank = own.rank, own.world, own.local_rank
        self.replica, self.replicas, self.gang_rank = own.number, own.count, environment.rank
        self.node = environment.node
        self.device = device
        self.args = args
        self._scratch = environment.scratch
        self._control = control
        self._groups = groups
        self._gpu = gpu
        self._cache: dict[Any, Any] = {}
        self._attempt: Attempt | None = None
        self._metrics: dict[str, float] = {}
        self._outputs = Outputs(self._scratch)
        self._checkpoints = Checkpoints("", self._scratch, number=0, rank=self.rank, world=self.world)
        self._checkpointed = False
        self._inputs = _inputs_of(environment)
        self._loops = 0

    # --- the gang ---

    @property
    def data_group(self) -> "ProcessGroup":
        """For the handler's collectives. Dropped and rebuilt after a failed request: ask for it in every `run`."""
        return self._groups.group

    @property
    def data_mesh(self) -> "DeviceMesh":
        """1-D, over all ranks, for the incarnation: for FSDP. All ranks must first ask for it at the same place."""
        return self._groups.mesh

    def cache(self, key: Any, factory: Callable[[], T]) -> T:
        """What `factory` made when `key` was first asked for in this process."""
        if key not in self._cache:
            self._cache[key] = factory()
        found: T = self._cache[key]
        return found

    # --- the request ---

    @property
    def request(self) -> str:
        """ID of the request that runs."""
        return self._live.work.request

    @property
    def attempt(self) -> int:
        """Which try of the request this is, from 1."""
        return self._live.work.number

    @property
    def traceparent(self) -> str | None:
        """Where in a trace the attempt is (W3C Trace Context): the parent of spans of your own. None: in none."""
        return self._live.work.traceparent

    @property
    def tracestate(self) -> str | None:
        """What vendors of tracing hand on among themselves, beside `traceparent`."""
        return self._live.work.tracestate

    @property
    def cancelled(self) -> bool:
        """Whether a cancel is known to *this* rank. The ranks may differ: act on it alone only outside collectives."""
        return self._attempt is not None and self._attempt.stop is not None

    def steps(self, iterable: Iterable[T], phase: str = "run", total: int | None = None, start: int = 0) -> Iterator[T]:
        """Walks a loop that all ranks walk alike. Between steps they agree to go on, to cancel, or that one failed.

        Raises `Canceled` on all ranks at the same step. All ranks must take the same number of steps. `start`: how
        many steps a checkpoint had done already; `total` includes them.
        """
        attempt = self._live
        total = total if total is not None else _length(iterable)
        attempt.progress.enter(phase, total)
        cadence = Cadence()
        first_loop = self._loops == 0
        self._loops += 1
        for current, item in enumerate(iterable, start):
            if (current > start or not first_loop) and cadence.due():
                self._gpu.keep_pace()
                self._agree(attempt, cadence)
            attempt.progress.step += 1
            attempt.progress.reach(current, total)
            yield item
        attempt.progress.reach(total if total is not None else attempt.progress.current + 1, total)

    def checkpoint(self, state: dict[str, Any], step: int) -> None:
        """Keeps every rank's tensors and JSON values, so that another attempt can go on after `step` steps.

        All ranks call it at the same place. Returns when the checkpoint is whole, or raises on all ranks.
        """
        attempt = self._live
        self._meet(attempt)
        report: dict[str, Any] = {"error": None}
        try:
            report |= self._checkpoints.save_part(state, step, attempt.progress.touch)
        except Exception as error:  # told to all ranks: none may go on alone
            report["error"] = f"{type(error).__name__}: {error}"[:2000]
        reports = [json.loads(one) for one in self._control.exchange(json.dumps(report).encode())]
        for rank, told in enumerate(reports):
            if told["error"]:
                raise CheckpointFailed(f"rank {rank} could not keep its part at step {step}: {told['error']}")
        self._checkpointed = True
        if self.rank == 0:
            self._checkpoints.seal(step, reports, attempt.progress.touch)

    def restore(self) -> tuple[dict[str, Any], int] | None:
        """The state and step of the last whole checkpoint of this request; None if there is none. On all ranks."""
        attempt = self._live
        if attempt.work.number == 1:
            return None
        self._meet(attempt)
        found = self._checkpoints.found()[:CANDIDATES] if self.rank == 0 else []
        for folder in json.loads(self._control.exchange(json.dumps(found).encode())[0]):
            part = self._try_part(folder)
            if self._control.vote(Say.FAILED if part is None else Say.GO_ON).all_go_on:
                return part
        return None

    def phase(self, name: str) -> None:
        """Names what `run` does now."""
        self._live.progress.enter(name)

    def progress(self, current: int, total: int | None = None) -> None:
        """Says how far the phase is, without a step: liveness, but no cancel."""
        self._live.progress.reach(current, total)

    def output(self, name: str, media_type: str | None = None) -> Path:
        """A temporary path to write to. What rank 0 asks for must exist after `run`, and is published then."""
        _ = self._live
        return self._outputs.promise(name, media_type)

    def metric(self, name: str, value: float) -> None:
        """A number to keep with the result; rank 0's are kept."""
        self._metrics[name] = float(value)

    def log(self, **fields: Any) -> None:
        """One structured line in the request's log."""
        line = json.dumps({"at": round(time.time(), 3), "rank": self.gang_rank, **fields}, default=str)
        sys.stdout.write(line + "\n")

    # --- for the runtime ---

    def _begin(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._metrics = {}
        self._outputs = Outputs(self._scratch / attempt.work.attempt / f"rank-{self.rank}")
        self._loops = 0
        self._checkpointed = attempt.work.number > 1  # an earlier attempt may have
        self._checkpoints = Checkpoints(
            attempt.work.checkpoint_prefix,
            self._scratch / attempt.work.attempt / f"checkpoint-{self.rank}",
            number=attempt.work.number,
            rank=self.rank,
            world=self.world,
        )

    def _localise(self) -> dict[str, str]:
        """Paths of the files that the input names, on every node; or the same end on all ranks.

        The first rank of each node fetches. The others wait in the vote, so nothing of theirs is watched meanwhile.
        """
        attempt = self._live
        files = attempt.work.files
        if not files:
            return {}
        attempt.progress.enter("inputs")
        say, error = self._fetch(attempt) if self.local_rank == 0 else (Say.GO_ON, None)
        attempt.at_end = True
        verdict = self._control.vote(say)
        attempt.progress.touch()
        attempt.at_end = False
        if error is not None:
            raise error
        if verdict.highest is Say.FAILED:
            raise PeerFailed("another node could not fetch a file of the input")
        if not verdict.all_go_on:
            attempt.verdict = verdict
            _raise(verdict)
        attempt.progress.enter("run")
        return {name: str(self._inputs.path(file)) for name, file in files}

    def _fetch(self, attempt: Attempt) -> tuple[Say, Exception | None]:
        def moved() -> None:
            attempt.progress.touch()
            if attempt.stop is not None or attempt.overdue:
                raise BrokenOff

        try:
            self._inputs.fetch([file for _, file in attempt.work.files], moved)
        except BrokenOff:
            return (Say.CANCEL if attempt.stop is not None else Say.TIMEOUT), None
        except Exception as error:  # told to all ranks: none may go on alone
            return Say.FAILED, error
        return Say.GO_ON, None

    def _try_part(self, folder: str) -> tuple[dict[str, Any], int] | None:
        try:
            return self._checkpoints.load_part(folder)
        except Exception as error:  # another checkpoint, or the start, is as good
            self.log(checkpoint=folder, refused=f"{type(error).__name__}: {error}")
            return None

    def _meet(self, attempt: Attempt) -> None:
        """A vote ahead of what only ranks in step may do together."""
        self._agree(attempt, Cadence())

    def _end(self) -> None:
        """Nothing of the attempt stays in the scratch folder."""
        if self._attempt is None:
            return
        self._checkpoints.leave()
        with suppress(OSError):  # the other ranks of this node may not be done
            (self._scratch / self._attempt.work.attempt).rmdir()
        self._attempt = None

    @property
    def _live(self) -> Attempt:
        if self._attempt is None:
            raise RuntimeError("no request is running: this part of the context is only for run()")
        return self._attempt

    def _agree(self, attempt: Attempt, cadence: Cadence) -> None:
        if attempt.verdict is not None:  # the handler swallowed the stop and walks on: no second vote, stop again
            _raise(attempt.verdict)
        say = Say.GO_ON
        if self.rank == 0 and attempt.stop is not None:
            say = Say.CANCEL
        elif self.rank == 0 and attempt.overdue:
            say = Say.TIMEOUT
        verdict = self._control.vote(say, cadence.wish(time.monotonic()))
        cadence.agree(verdict.stride, time.monotonic())
        if not verdict.all_go_on:
            attempt.verdict = verdict
            _raise(verdict)


def _inputs_of(here: Environment) -> Inputs:
    """Replicas on one node have a folder each: none takes away what another one reads."""
    own = here.replica
    node = here.node if own.on_node == 1 else f"{here.node}.{own.number}"
    return Inputs(here.scratch, node, here.input_cache_bytes // own.on_node)


def _raise(verdict: Verdict) -> NoReturn:
    match verdict.highest:
        case Say.CANCEL:
            raise Canceled("the request was canceled")
        case Say.TIMEOUT:
            raise TimedOut("the request's deadline passed")
        case _:
            raise PeerFailed("another rank failed or left the loop")


def _length(iterable: Iterable[Any]) -> int | None:
    try:
        return len(iterable)  # type: ignore[arg-type]
    except TypeError:
        return None
