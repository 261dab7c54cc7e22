"""One container as a process tree of this machine: its start, its end with all that it left, its log, its code."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

MARK = "STANDIN_POD_UID"
JOB_MARK = "STANDIN_JOB_UID"


class Container:
    """What runs of it carries the pod's UID in its environment, as a container would hold it in a cgroup."""

    def __init__(self, command: list[str], env: Mapping[str, str], cwd: Path, log: Path, uid: str) -> None:
        self._uid = uid
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**env, MARK: uid},
            cwd=cwd,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.started_at = time.time()

    def ended(self) -> int | None:
        """The exit code once process 1 ended, 128 + n for signal n; what it left behind dies with it."""
        code = self._process.poll()
        if code is None:
            return None
        self.kill()
        return code if code >= 0 else 128 - code

    def ask_to_end(self) -> None:
        """SIGTERM to process 1 alone, as a container runtime does."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to everything in it."""
        for _ in range(5):
            found = [process for process in marked(MARK, self._uid) if process.pid != os.getpid()]
            if not found:
                break
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            others = [process for process in found if process.pid != self.pid]
            psutil.wait_procs(others, timeout=0.3)  # process 1 is waited for by who started it: its code would be lost
            self._process.wait(timeout=10)
        self._process.wait(timeout=10)
        self._log.close()


def marked(name: str, value: str) -> list[psutil.Process]:
    """Living processes with that variable in their environment."""
    needle, found = f"{name}={value}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if needle in (folder / "environ").read_bytes().split(b"\0"):
                process = psutil.Process(int(folder.name))
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found
