"""The thread that starts the postmaster, waits for its end, and starts it again until it is told to stop.

One thread does all of it because the kernel ends the postmaster when the thread that forked it ends (`launch.py`):
that thread must live exactly as long as the owner wants the server. It is a daemon thread, so an owner that just
exits is not held up, and takes the server with it.

Must not know: how a postmaster is started, or when it is ready.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from orchestrator.errors import MusterError

_log = logging.getLogger("muster.postgres")

# A postmaster that lived this long gets the next one at once; one that keeps dying is started ever more rarely.
_LONG_LIFE = timedelta(seconds=10)
_FIRST_PAUSE = timedelta(milliseconds=100)
_LONGEST_PAUSE = timedelta(seconds=5)
# Fast shutdown writes a checkpoint; immediate shutdown drops all and leaves the rest to crash recovery.
_STOP_STEPS = (
    (signal.SIGINT, timedelta(seconds=30)),
    (signal.SIGQUIT, timedelta(seconds=7)),
    (signal.SIGKILL, timedelta(seconds=5)),
)


class Supervisor:
    """Keeps one postmaster alive. `spawn` starts it; `clear` ends what a dead one left behind."""

    def __init__(self, *, spawn: Callable[[], subprocess.Popen[bytes]], clear: Callable[[], None]) -> None:
        self._spawn = spawn
        self._clear = clear
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="embedded-postgres", daemon=True)
        self.deaths = 0
        """How many postmasters ended, or could not be started, without being told to."""

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> bool:
        """End the postmaster, gently first. True if it shut down cleanly, False if it may have left processes."""
        self._stopping.set()
        for number, limit in _STOP_STEPS:
            self._signal(number)
            self._thread.join(limit.total_seconds())
            if not self._thread.is_alive():
                break
        return self._process is not None and self._process.returncode == 0

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None:
            process.send_signal(number)

    def _keep_alive(self) -> None:
        pause = timedelta(0)
        while not self._stopping.wait(pause.total_seconds()):
            began = time.monotonic()
            code = self._live_once()
            if self._stopping.is_set():
                return
            self.deaths += 1
            lived = timedelta(seconds=time.monotonic() - began)
            pause = _next_pause(pause, lived)
            said = {"action": "postgres_ended"}
            _log.error("Postgres ended (%s) after %s; starting it again in %s", code, lived, pause, extra=said)

    def _live_once(self) -> str:
        try:
            if self.deaths:
                self._clear()
            self._process = self._spawn()
            if self._stopping.is_set():  # told to stop while there was nothing yet to send the signal to
                self._signal(signal.SIGINT)
            return f"exit {self._process.wait()}"
        except (OSError, MusterError) as error:
            return str(error)


def _next_pause(last: timedelta, lived: timedelta) -> timedelta:
    if lived > _LONG_LIFE:
        return timedelta(0)
    return min(max(last * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
