"""`python -m inference.agent`: torchrun's agent of one node, with its command line, that knows when to give up.

torchrun restarts its ranks after any exit code, at once, up to `--max-restarts` times. This one ends the gang for good
when a rank says that it must not come back, when ranks die again and again before the service answered them, and when
the service has not answered for `MUSTER_HOLD_S`; between such deaths it waits. An agent that ends closes the
rendezvous, so those of the other nodes end too.

Overrides two methods of torch's LocalElasticAgent, which are not public: tests/unit/test_inference_agent.py says what
they must still be called for.
"""

import gc
import os
import sys
import time
from collections.abc import Iterable
from typing import NoReturn, cast

gc.disable()  # a tenth of importing torch is collecting what is not garbage, and the ranks wait for it

from torch.distributed import run as torchrun
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import api as launcher

from inference import obituary
from inference.backoff import delays
from inference.contact import Contact
from inference.environment import hold_s, node_name, scratch_folder
from inference.faults import FINAL, Exit

gc.freeze()
gc.enable()

MAX_EARLY_DEATHS = 3
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
LOOK_EVERY_S = 5.0


class GiveUp(Exception):
    """The gang ends for good; the message says why."""


class Patience:
    """How often ranks may die before the service answered them, and how long to wait before the next try."""

    def __init__(self, contact: Contact) -> None:
        self._contact = contact
        self._began = time.monotonic()
        self._deaths = 0
        self._delays = delays(FIRST_PAUSE_S, LONGEST_PAUSE_S)

    def begin_round(self) -> None:
        """Ranks are about to start."""
        self._began = time.monotonic()

    def lose_round(self, codes: Iterable[int]) -> str | None:
        """Ranks ended with these exit codes. Why they must not start again, if so."""
        final = sorted(set(codes) & set(FINAL))
        if final:
            return f"exit code {final[0]} ({Exit(final[0]).name.lower()}) is for good"
        if self._contact.at > self._began:
            self._deaths, self._delays = 0, delays(FIRST_PAUSE_S, LONGEST_PAUSE_S)
            return None
        self._deaths += 1
        if self._deaths >= MAX_EARLY_DEATHS:
            return f"its ranks died {self._deaths} times before they said hello"
        return None

    def pause_s(self) -> float:
        """None after ranks that had reached the service: whoever lost a running gang wants it back."""
        return next(self._delays) if self._deaths else 0.0


class Agent(LocalElasticAgent):
    """One node's agent; torch's launcher makes it."""

    _contact = Contact.of_node(scratch_folder(os.environ), node_name(os.environ))
    _patience = Patience(_contact)
    _looked_at = 0.0

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.is_failed() or result.state is WorkerState.UNHEALTHY:
            why = self._patience.lose_round(failure.exitcode for failure in result.failures.values())
            if why is not None and self._remaining_restarts:
                say(f"not started again: {why}")
                self._remaining_restarts = 0
            if len(worker_group.workers) == 1:
                for rank, failure in result.failures.items():
                    obituary.tell(rank, failure.pid, failure.exitcode)
        elif cast(int, worker_group.group_rank) == 0:  # where rank 0 is, which speaks with the service all the time
            self._end_if_forgotten()
        return result

    def _restart_workers(self, worker_group: WorkerGroup) -> None:
        pause_s = self._patience.pause_s()
        if pause_s:
            self._stop_workers(worker_group)
            say(f"ranks start again in {pause_s:.1f} s")
            time.sleep(pause_s)
        self._patience.begin_round()
        obituary.forget_key()
        super()._restart_workers(worker_group)

    def _end_if_forgotten(self) -> None:
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        if self._contact.silent_s > hold_s(os.environ):
            raise GiveUp(f"the service has not answered for {self._contact.silent_s:.0f} s")


def main() -> NoReturn:
    Agent._contact.begin()
    Agent._patience.begin_round()
    setattr(launcher, "LocalElasticAgent", Agent)  # noqa: B010 (there is no other way in)
    try:
        torchrun.main()
    except ChildFailedError as error:
        say(str(error))
        sys.exit(1)
    except GiveUp as error:
        say(f"ended: {error}")
        sys.exit(int(Exit.OVER))
    except SignalException as signaled:
        say(f"told to go by signal {signaled.sigval}")
        sys.exit(1)
    sys.exit(0)


def say(words: str) -> None:
    """On lines that can be told from those of the ranks."""
    for line in words.splitlines():
        print(f"muster agent: {line}", file=sys.stderr, flush=True)  # noqa: T201 (the node's log)


if __name__ == "__main__":
    main()
