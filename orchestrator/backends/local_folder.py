"""The folder of one local gang, all that is remembered of it, and the lock that replicas on one machine share.

    <root>/.lock                 held while anything is launched, stopped or tidied
    <root>/<name>/gang.json      written before the first process starts, replaced atomically
    <root>/<name>/token          0600: the gang token
    <root>/<name>/rendezvous     where its agents meet
    <root>/<name>/agent          where torchrun keeps the errors of its ranks
    <root>/<name>/node-N.agent   locked by the agent while it lives; its pid, then its exit code
    <root>/<name>/node-N.log     what it wrote, and node-N.log.1 what was cut off at the bound
    <root>/<name>/scratch        for the handler; goes with the folder

It must not know phases, nor what the processes are for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from orchestrator.backends.local_process import Agent, Life, read_agent
from orchestrator.errors import BackendError

_LOCK_POLL = timedelta(milliseconds=5)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What gang.json holds. `stop_by` is a reading of the machine's monotonic clock, which all processes share and
    nobody sets; after a reboot it means nothing, but then nothing runs either."""

    gang: str
    mode: str
    nodes: int
    ref: str
    stop_by: float | None = None


class GangFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    def read(self) -> Record | None:
        """None where nothing was launched, or a crash or power loss left no readable record."""
        try:
            return Record(**json.loads((self.path / "gang.json").read_text()))
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None

    def create(self, record: Record, token: str) -> None:
        """The record comes last: until it is there, the folder is litter."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        (self.path / "scratch").mkdir(exist_ok=True)
        _write(self.path / "token", token)
        self.write(record)

    def write(self, record: Record) -> None:
        draft = self.path / "gang.json.new"
        _write(draft, json.dumps(asdict(record)))
        draft.replace(self.path / "gang.json")

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def agents(self, nodes: int) -> list[Agent]:
        return [read_agent(self.agent_file(node), node) for node in range(nodes)]

    def has_live_agent(self) -> bool:
        """By the files alone, whatever the record says."""
        return any(read_agent(file, 0).life is Life.RUNNING for file in self.path.glob("node-*.agent"))

    def agent_file(self, node: int) -> Path:
        return self.path / f"node-{node}.agent"

    def log(self, node: int) -> Path:
        return self.path / f"node-{node}.log"

    def log_tail(self, node: int, tail_bytes: int) -> str:
        log = self.log(node)
        tail = _tail(log, tail_bytes)
        return (_tail(_cut_off(log), tail_bytes - len(tail)) + tail).decode(errors="replace")

    def bound_logs(self, nodes: int, log_bytes: int) -> None:
        """Cut a log that outgrew `log_bytes`, keeping its last quarter aside. What is written meanwhile may be lost."""
        for log in map(self.log, range(nodes)):
            if log.exists() and log.stat().st_size > log_bytes:
                _write(_cut_off(log), _tail(log, log_bytes // 4))
                os.truncate(log, 0)  # writers append, so they go on at the new end


@contextlib.contextmanager
def locked(root: Path, *, wait: timedelta) -> Iterator[bool]:
    """True while this caller alone, of all threads and processes, may change what lies under `root`; False if `wait`
    was zero and someone else holds it. Raises BackendError "busy" when a longer wait was in vain."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _acquire(descriptor, root, wait)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, root: Path, wait: timedelta) -> bool:
    give_up_at = time.monotonic() + wait.total_seconds()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                return False
            if time.monotonic() > give_up_at:
                raise BackendError(
                    f"Another process has held {root / '.lock'} for {wait}; find it with fuser and end it.", code="busy"
                ) from None
            time.sleep(_LOCK_POLL.total_seconds())
        else:
            return True


def _cut_off(log: Path) -> Path:
    return log.with_name(f"{log.name}.1")


def _tail(path: Path, size: int) -> bytes:
    if size <= 0 or not path.exists():
        return b""
    with path.open("rb") as handle:
        handle.seek(max(0, path.stat().st_size - size))
        return handle.read(size)


def _write(path: Path, content: str | bytes) -> None:
    raw = content.encode() if isinstance(content, str) else content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(raw)
