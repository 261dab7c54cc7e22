"""Processes of local gangs: start one agent, tell whether it lives and how it ended, find and end all that is left.

It knows POSIX and psutil. It must not know gangs' records, phases or torchrun.

Who may tell that an agent lives? Only a parent can reap, pids are reused, and the service may die and come back. So
every agent runs under a small `sh` that holds a lock (flock) on the agent's file, and writes its pid and at the end
the exit code there. The kernel drops the lock with the last breath of `sh`, zombies hold none, and any replica can
ask. The lock is taken before the fork and inherited, so a service that dies at any line leaves no agent unaccounted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, cast

import psutil

# stdin is the agent's file, locked. The traps keep `sh` alive through a SIGTERM to its group, so that it can still
# write the code; the command itself gets the signal as usual.
_WRAPPER = """trap : HUP INT QUIT TERM
echo "$$" >&0
"$@" </dev/null
echo "$?" >&0
"""

_KILL_ROUNDS = 3
_KILL_WAIT = timedelta(milliseconds=200)


class Life(StrEnum):
    ABSENT = "absent"  # never started
    RUNNING = "running"
    ENDED = "ended"  # with an exit code
    LOST = "lost"  # gone without one


@dataclass(frozen=True, kw_only=True)
class Agent:
    node: int
    life: Life
    pid: int | None = None  # of its `sh`: leader of a session and a process group
    code: int | None = None  # as sh tells it: 128 + n for signal n
    changed_at: float = 0.0  # seconds since the epoch, by the file's clock

    @property
    def signal_name(self) -> str | None:
        if self.code is None or self.code <= 128:
            return None
        with contextlib.suppress(ValueError):
            return signal.Signals(self.code - 128).name
        return None


def start_agent(file: Path, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> None:
    """Start `command` in a session of its own, with `file` as its proof of life. The caller made sure none runs."""
    with _open_private(file, os.O_RDWR | os.O_TRUNC) as alive, _open_private(log, os.O_WRONLY) as output:
        fcntl.flock(alive.fileno(), fcntl.LOCK_EX)
        child = subprocess.Popen(
            ["/bin/sh", "-c", _WRAPPER, "muster-agent", *command],
            stdin=alive,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
        )
    with _children_guard:
        _children.append(child)


def read_agent(file: Path, node: int) -> Agent:
    """The agent as its file tells. Looks at the lock first: once that is free, the words are final."""
    try:
        with file.open("rb") as handle:
            running = _is_locked(handle.fileno())
            words = handle.read().split()
            changed_at = os.fstat(handle.fileno()).st_mtime
    except FileNotFoundError:
        return Agent(node=node, life=Life.ABSENT)
    pid = int(words[0]) if words else None
    if running:
        return Agent(node=node, life=Life.RUNNING, pid=pid, changed_at=changed_at)
    if pid is None:
        return Agent(node=node, life=Life.ABSENT)
    if len(words) < 2:
        return Agent(node=node, life=Life.LOST, pid=pid, changed_at=changed_at)
    return Agent(node=node, life=Life.ENDED, pid=pid, code=int(words[1]), changed_at=changed_at)


def ask_to_end(agents: Sequence[Agent], mark: tuple[str, str]) -> None:
    """SIGTERM. Agents pass it on to their ranks; where an agent is gone, what it left behind is told directly."""
    if not all(agent.life is Life.RUNNING and agent.pid for agent in agents):
        for process in processes_marked(mark):
            _signal(process, signal.SIGTERM)
        return
    for agent in agents:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(agent.pid or 0, signal.SIGTERM)


def kill_marked(mark: tuple[str, str]) -> None:
    """SIGKILL to everything that carries the mark, again while new processes turn up; waits a moment for the ends."""
    for _ in range(_KILL_ROUNDS):
        processes = processes_marked(mark)
        if not processes:
            return
        for process in processes:
            _signal(process, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=_KILL_WAIT.total_seconds())


def processes_marked(mark: tuple[str, str]) -> list[psutil.Process]:
    """Living processes with NAME=VALUE in their environment, their descendants, and all of these processes' sessions.

    torchrun gives every rank a session of its own and orphans change parents, so neither tells enough alone. Only a
    process that wiped its environment, left its session and outlived its parents escapes.
    """
    living = {process.pid: process for process in psutil.process_iter() if _is_living(process)}
    family = {pid: (_parent(process), _session(pid)) for pid, process in living.items()}
    ours = {pid for pid, process in living.items() if _carries(process, mark)}
    grown = True
    while grown:
        sessions = {family[pid][1] for pid in ours} - {0}
        more = {pid for pid, (parent, session) in family.items() if parent in ours or session in sessions} - ours
        ours |= more
        grown = bool(more)
    return [living[pid] for pid in sorted(ours)]


def reap() -> None:
    """Collect ended agents that this process started, so that no zombies pile up."""
    with _children_guard:
        _children[:] = [child for child in _children if child.poll() is None]


# Of the process, not of a LocalBackend: whoever made the agent, only this process can reap it.
_children: list[subprocess.Popen[bytes]] = []
_children_guard = threading.Lock()


def _open_private(path: Path, flags: int) -> BinaryIO:
    descriptor = os.open(path, flags | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return cast(BinaryIO, os.fdopen(descriptor, "ab", buffering=0))


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.send_signal(number)


def _is_living(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return 0


def _carries(process: psutil.Process, mark: tuple[str, str]) -> bool:
    try:
        return process.environ().get(mark[0]) == mark[1]
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return False
