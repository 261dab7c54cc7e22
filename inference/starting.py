"""The phases of a gang's start between hello and ready: preflight, setup, warm-up. Each is bounded, timed, and watched.

To the watch thread a phase is an attempt that nobody leased, so one that stands still is told with the stacks of all
ranks. A phase ends on all ranks together. What fails in one ends the gang, and the service is told which phase it was.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch

from inference import preflight
from inference.attempt import Attempt, Life
from inference.commons import Commons
from inference.context import Context
from inference.control import Control
from inference.environment import Environment
from inference.faults import Exit, Fault
from inference.groups import DataGroups
from inference.handler import Handler, load
from inference.leaving import HEARSAY_S, Leaving
from inference.preflight import Fact, PreflightFailed, Wanted
from inference.run import Outcome, Runner
from inference.vote import Say
from inference.work import Config, Work

PREFLIGHT_S = 120.0
_WANTED = ("nodes", "ranks_per_node", "min_free_mb", "min_mb_per_s")


class Start:
    """Of one rank. `seconds` by phase, as far as it came."""

    def __init__(self, leaving: Leaving, life: Life, config: Config) -> None:
        self.life = life
        self.seconds: dict[str, float] = {}
        self._leaving = leaving
        self._config = config

    @property
    def shown(self) -> dict[str, float]:
        order = ("import", "rendezvous", "preflight", "setup", "warmup")
        return {name: round(self.seconds[name], 3) for name in order if name in self.seconds}

    def preflight(
        self, here: Environment, control: Control, commons: Commons, device: torch.device, problem: str | None
    ) -> tuple[DataGroups, dict[str, Any]]:
        """The groups to compute on, and what they can do."""
        wanted = Wanted(**{name: self._config.preflight.get(name) for name in _WANTED})
        with self._phase("preflight", self._config.preflight.get("timeout_s", PREFLIGHT_S)):
            try:
                every = preflight.look(_to_all(control, commons), Fact.of(here, device, problem), wanted)
                facts = [every[rank] for rank in here.replica.ranks]
                groups = DataGroups(self._config.data_backend, self._config.data_timeout_s, device)
                link = preflight.measure(control, groups, device, facts, wanted)
            except PreflightFailed as failed:
                self._fail(here.rank, failed.rank, failure("preflight", "PreflightFailed", str(failed)), failed.node)
            except RuntimeError as error:  # of the data group
                fault = Fault.of(error, rank=here.rank, node=here.node, phase="preflight", step=0)
                message = f"the data group does not work: {fault.message}"
                self._leaving.now(Exit.SETUP_FAILED, failure("preflight", fault.type, message, fault.traceback))
        shown = preflight.figures(link, every)
        if here.rank == 0:
            took = self.seconds["preflight"]
            print(f"muster: preflight of {len(every)} ranks in {took:.3f} s: {shown}", flush=True)  # noqa: T201
        return groups, shown

    def setup(self, context: Context, control: Control) -> Handler[Any]:
        with self._phase("setup", self._config.setup_timeout_s):
            try:
                handler = load(self._config.handler, self._config.workdir)()
                handler.setup(context)
            except BaseException as error:  # SystemExit of a script's import too
                fault = Fault.of(error, rank=context.gang_rank, node=context.node, phase="setup", step=0)
                print(fault.traceback, flush=True)  # noqa: T201 (the rank's log)
                self._leaving.now(Exit.SETUP_FAILED, failure("setup", fault.type, fault.message, fault.traceback))
            control.vote(Say.DONE)  # who waits here stands still for whoever is not done
        return handler

    def warm_up(self, runner: Runner) -> None:
        """One request that nobody sent, as any other; it must succeed."""
        if self._config.warmup is None:
            return
        context = runner.context
        place = Path(context._scratch) / f"warmup-{context.gang_rank}"
        work = Work.of({**_NOTHING, **self._config.warmup, "output_prefix": (place / "1").as_uri()})
        with self._phase("warmup", self._config.setup_timeout_s, work) as attempt:
            ending = runner.run(attempt)
            context._outputs.discard()
            runner.rest()
            shutil.rmtree(place, ignore_errors=True)  # checkpoints, if it kept any
            if ending.outcome is not Outcome.SUCCEEDED:
                fault = ending.fault
                told = (fault.type, fault.message, fault.traceback) if fault else ("Canceled", "it was canceled", "")
                blamed = (fault.rank, fault.node) if fault else (context.gang_rank, context.node)
                self._fail(context.gang_rank, blamed[0], failure("warmup", *told), blamed[1])

    @contextmanager
    def _phase(self, name: str, bound_s: float, work: Work | None = None) -> Iterator[Attempt]:
        attempt = Attempt(work or Work.of({**_NOTHING, "attempt": name}), bound_s)
        attempt.progress.enter(name)
        self.life.attempt = attempt
        yield attempt
        self.life.attempt = None
        self.seconds[name] = time.monotonic() - attempt.began

    def _fail(self, rank: int, blamed: int, error: dict[str, Any], node: str) -> NoReturn:
        """All ranks know the same: the one it is about speaks, the others give it time."""
        if rank != blamed:
            time.sleep(HEARSAY_S)
        self._leaving.now(Exit.SETUP_FAILED, {**error, "rank": blamed, "node": node})


def _to_all(control: Control, commons: Commons) -> Callable[[bytes], list[bytes]]:
    """The group's own way is bounded by more than patience; it does not reach other replicas."""
    return partial(commons.exchange, "facts") if commons.is_shared else control.exchange


_NOTHING: dict[str, Any] = {"attempt": "warmup", "request": "warmup", "number": 1, "input": {}}


def failure(phase: str, kind: str, message: str, traceback: str = "") -> dict[str, Any]:
    """As a rank-error says it."""
    return {"attempt": None, "phase": phase, "step": 0, "type": kind, "message": message, "traceback": traceback}
