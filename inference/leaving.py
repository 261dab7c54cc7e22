"""Every way in which a rank ends before its time, from any thread: say why, bring the last lines out, go.

`os._exit`, because the main thread may sit in a C collective for ever. Nothing here waits for more than a few seconds.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from inference.faults import Exit
from inference.kin import Death
from inference.service import Over, Refused, Service, Stale, Superseded, Unreachable
from inference.shipping import Shipping
from inference.words import LastWords

SAY_S = 2.0
HEARSAY_S = 2.0  # a broken collective lets the ones speak who know which rank broke it
PR_SET_PDEATHSIG = 1


class Leaving:
    def __init__(self, rank: int, node: str, service: Service, shipping: Shipping, words: LastWords) -> None:
        self._rank = rank
        self._node = node
        self._service = service
        self._shipping = shipping
        self._words = words
        self._once = threading.Lock()
        self._mourning = threading.Lock()
        self._now: Callable[[], dict[str, Any]] = lambda: {"attempt": None, "phase": "runtime", "step": 0}

    def during(self, now: Callable[[], dict[str, Any]]) -> None:
        """How to know what the gang does, for words about others: attempt, phase and step."""
        self._now = now

    def say(self, error: dict[str, Any]) -> None:
        """The rank-error call, one bounded try: the first writer is the root cause, so it must not be late.

        `rank` and `node` in it say that it is about another rank.
        """
        if not self._service.knows_incarnation:
            return
        body = {"node": self._node, **error}
        with suppress(Over, Stale, Refused, Unreachable):
            self._service.error(body.pop("rank", self._rank), body, give_up_s=SAY_S)

    def now(self, code: Exit, error: dict[str, Any] | None = None) -> NoReturn:
        """Ends the process. The first caller decides; other threads that want to end it as well wait for that."""
        self._once.acquire()
        self._words.farewell(code)
        self._shipping.flush()  # after the error the service takes no lines of this incarnation
        if error is not None:
            self.say({**error, "exiting": True})
        self._shipping.close()
        os._exit(code)

    def tell(self, error: dict[str, Any]) -> None:
        """The error of a rank that is about to end, before it ends others."""
        self._words.farewell(Exit.NO_PROGRESS)
        self._shipping.flush()
        self.say({**error, "exiting": True})

    def after_hearsay(self, code: Exit, error: dict[str, Any]) -> NoReturn:
        """A peer is gone, and this rank does not know which: who does may speak first, and torchrun may end us."""
        time.sleep(HEARSAY_S)
        self.now(code, error)

    def mourn(self, death: Death) -> None:
        """A rank of this node died without a word."""
        with self._mourning:
            self.say({**self._now(), **death.as_error()})

    def mourn_stranger(self, death: Death) -> None:
        """As `mourn`, for a rank of another replica: what that one was doing is not known here."""
        with self._mourning:
            self.say({"attempt": None, "phase": "run", "step": None, **death.as_error()})

    def in_good_order(self) -> None:
        """Rank 0 of a drained gang."""
        with suppress(Over, Stale, Refused, Unreachable):
            self._service.leave(self._rank, signal=None, drained=True, give_up_s=SAY_S)

    def on_signal(self, number: int) -> NoReturn:
        """SIGTERM or SIGINT: the pod is deleted, or torchrun restarts the gang. The service should know at once."""
        self._once.acquire()
        self._words.farewell(Exit.SIGNALED)
        self._shipping.flush()
        self._mourning.acquire(timeout=SAY_S)  # torchrun ends us because a neighbour died: that is the cause
        if self._service.knows_incarnation:
            with suppress(Over, Stale, Refused, Unreachable):
                self._service.leave(self._rank, signal=number, drained=False, give_up_s=SAY_S)
        self._shipping.close()
        os._exit(Exit.SIGNALED)


def code_of(over: Over) -> Exit:
    """The ranks may come back after an incarnation that is over, not after a gang."""
    return Exit.SUPERSEDED if isinstance(over, Superseded) else Exit.OVER


def die_with_parent() -> None:
    """A rank without its torchrun agent would keep the GPU and the port of the next incarnation."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(Exit.POISONED)


def watch_signals(leaving: Leaving) -> None:
    """A thread acts on SIGTERM and SIGINT, because the main thread may be in a collective that never returns.

    Through the wakeup descriptor, which the C-level handler writes at once, and not by blocking the signals for
    `sigwait`: a blocked signal stays blocked in every child process that a handler starts (ffmpeg, data loaders),
    which then could not be terminated.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _let_the_thread_act)

    def watch() -> None:
        while received := os.read(reader, 1):
            if received[0] in (signal.SIGTERM, signal.SIGINT):
                leaving.on_signal(received[0])

    threading.Thread(target=watch, name="muster-signals", daemon=True).start()


def _let_the_thread_act(number: int, frame: object) -> None:
    pass
