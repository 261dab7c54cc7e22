"""Processes that an earlier postmaster of the same data directory left behind, and its pid file.

After `kill -9` of an owner its postmaster may still be shutting down; after `kill -9` of a postmaster its backends may
still be running. Both must be gone before the directory is opened again. What proves that a process is one of them is
never a pid from a file (it may have been reused) but that it is a `postgres` with this very directory as its working
directory. Root without CAP_SYS_PTRACE, as in a container, may not ask for that; then its title decides, in which every
process of ours carries the device and inode of the directory (`mark`).

Must not know: why the earlier one ended. Called only with the folder's lock held.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import psutil

from orchestrator.store.embedded.errors import EmbeddedPostgresError

_log = logging.getLogger("muster.postgres")
_LEFTOVER = {"action": "postgres_leftover"}
_POLL = timedelta(milliseconds=20)

# What is tried in turn, and how long each may take. The postmaster passes SIGINT (end all sessions, write a checkpoint)
# and SIGQUIT (drop everything) on to its children; orphaned children mostly end by themselves.
_TO_POSTMASTER = ((signal.SIGINT, timedelta(seconds=15)), (signal.SIGQUIT, timedelta(seconds=7)))
_TO_ORPHANS = ((None, timedelta(milliseconds=300)), (signal.SIGQUIT, timedelta(seconds=1)))
_KILL_LIMIT = timedelta(seconds=5)


def mark(data: Path) -> str:
    """A name that no other data directory on this machine has while this one is open. Used as `cluster_name`."""
    found = data.stat()
    return f"muster-{found.st_dev:x}-{found.st_ino:x}"


def clear(data: Path) -> None:
    """End what still serves this directory, gently first, and remove a pid file that would fool Postgres."""
    remaining = _serving(data)
    if remaining:
        pids = [process.pid for process in remaining]
        _log.warning("ending what an earlier Postgres left in %s: %s", data, pids, extra=_LEFTOVER)
        _end(data, remaining)
    _forget_misleading_pid_file(data / "postmaster.pid")


def _serving(data: Path) -> list[psutil.Process]:
    processes = psutil.process_iter(["name"])
    return [process for process in processes if process.info["name"] == "postgres" and _serves(process, data)]


def _serves(process: psutil.Process, data: Path) -> bool:
    try:
        return Path(process.cwd()).samefile(data)
    except psutil.AccessDenied:
        return _bears_mark(process, data)
    except (psutil.Error, OSError):
        return False


def _bears_mark(process: psutil.Process, data: Path) -> bool:
    try:
        is_its_account = process.uids().real == data.stat().st_uid
        return is_its_account and mark(data) in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _end(data: Path, processes: list[psutil.Process]) -> None:
    pid = _pid_in(data / "postmaster.pid")
    postmaster = [process for process in processes if process.pid == pid]
    for number, limit in _TO_POSTMASTER if postmaster else _TO_ORPHANS:
        _signal(postmaster or processes, number, data)
        if _wait(processes, limit):
            return
    _signal(processes, signal.SIGKILL, data)
    if not _wait(processes, _KILL_LIMIT):
        pids = [process.pid for process in processes if _is_alive(process)]
        raise EmbeddedPostgresError(f"processes {pids} still use {data} and do not end: end them, then start again")


def _signal(processes: Iterable[psutil.Process], number: signal.Signals | None, data: Path) -> None:
    for process in processes:
        try:
            if number is not None:
                process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            raise EmbeddedPostgresError(
                f"process {process.pid} still uses {data} and may not be ended by this user: end it, then start again"
            ) from None


def _wait(processes: list[psutil.Process], limit: timedelta) -> bool:
    end = time.monotonic() + limit.total_seconds()
    while any(_is_alive(process) for process in processes):
        if time.monotonic() > end:
            return False
        time.sleep(_POLL.total_seconds())
    return True


def _is_alive(process: psutil.Process) -> bool:
    try:  # A zombie holds nothing, and under a pid 1 that reaps nobody it stays for ever.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _forget_misleading_pid_file(path: Path) -> None:
    """Postgres takes an unreadable file, or one with the pid of any live process, for a running server.

    Every other pid file is left to Postgres: it also holds the key of the old shared memory, which Postgres checks.
    """
    if not path.exists():
        return
    pid = _pid_in(path)
    if pid is None or psutil.pid_exists(pid):
        found = pid or "no process"
        _log.warning("removing %s: it names %s, which is no server of this directory", path, found, extra=_LEFTOVER)
        path.unlink()


def _pid_in(path: Path) -> int | None:
    try:
        return abs(int(path.read_text().splitlines()[0]))
    except (OSError, ValueError, IndexError):
        return None
