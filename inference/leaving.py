"""Every way in which a rank ends before its time, from any thread: say why, bring the last lines out, go.

`os._exit`, because the main thread may sit in a C collective for ever. Nothing here waits for more than a few seconds.
"""

import ctypes
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any, NoReturn

from inference.faults import Exit
from inference.service import Over, Refused, Service, Stale, Unreachable
from inference.shipping import Shipping

SAY_S = 2.0
PR_SET_PDEATHSIG = 1


class Leaving:
    def __init__(self, rank: int, node: str, service: Service, shipping: Shipping) -> None:
        self._rank = rank
        self._node = node
        self._service = service
        self._shipping = shipping
        self._once = threading.Lock()

    def say(self, error: dict[str, Any]) -> None:
        """The rank-error call, one bounded try: the first writer is the root cause, so it must not be late."""
        if not self._service.knows_incarnation:
            return
        with suppress(Over, Stale, Refused, Unreachable):
            self._service.error(self._rank, {"node": self._node, **error}, give_up_s=SAY_S)

    def now(self, code: Exit, error: dict[str, Any] | None = None) -> NoReturn:
        """Ends the process. The first caller decides; other threads that want to end it as well wait for that."""
        self._once.acquire()
        if error is not None:
            self.say({**error, "exiting": True})
        self._shipping.close()
        os._exit(code)

    def in_good_order(self) -> None:
        """Rank 0 of a drained gang."""
        with suppress(Over, Stale, Refused, Unreachable):
            self._service.leave(self._rank, signal=None, drained=True, give_up_s=SAY_S)

    def on_signal(self, number: int) -> NoReturn:
        """SIGTERM or SIGINT: the pod is deleted, or torchrun restarts the gang. The service should know at once."""
        self._once.acquire()
        if self._service.knows_incarnation:
            with suppress(Over, Stale, Refused, Unreachable):
                self._service.leave(self._rank, signal=number, drained=False, give_up_s=SAY_S)
        self._shipping.close()
        os._exit(Exit.SIGNALED)


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
