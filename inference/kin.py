"""The other ranks of this node: tells at once when one dies without a word, and ends one that hears nothing.

A pidfd per neighbour wakes one thread; its wait status is read before torchrun collects it, or told by its last words.
Every living neighbour reports a death: the first report counts, and rank 0 may be the dead one. Knows no attempts.
Of a gang with several replicas a neighbour is one of the same, or, where each has a rank alone here, of any.
"""

import os
import select
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference import words
from inference.faults import TRACEBACK_BYTES, Code

_CRASHES = {
    "Segmentation fault": signal.SIGSEGV,
    "Aborted": signal.SIGABRT,
    "Bus error": signal.SIGBUS,
    "Floating-point exception": signal.SIGFPE,
    "Illegal instruction": signal.SIGILL,
}


@dataclass(frozen=True, kw_only=True)
class Death:
    """How a neighbour ended that could not say it."""

    rank: int
    type: str
    message: str
    stack: str

    def as_error(self) -> dict[str, Any]:
        """What a rank-error call says of it."""
        return {
            "rank": self.rank,
            "type": self.type,
            "message": self.message,
            "traceback": self.stack[-TRACEBACK_BYTES:],
            "code": Code.RANK_FAILED,
            "exiting": True,
        }


class Kin:
    """`pids` by rank, of the ranks on this node but this one."""

    def __init__(self, folder: Path, pids: dict[int, int], mourn: Callable[[Death], None]) -> None:
        self._folder = folder
        self._pids = pids
        self._mourn = mourn

    @property
    def ranks(self) -> list[int]:
        return sorted(self._pids)

    def watch(self) -> None:
        """Starts the thread. Without pidfds (not Linux) the service's lease is what notices."""
        if self._pids and hasattr(os, "pidfd_open"):
            threading.Thread(target=self._watch, name="muster-kin", daemon=True).start()

    def words_of(self, rank: int) -> str:
        """The stacks that a neighbour's C thread wrote because no Python thread could."""
        return words.read(self._folder, rank, self._pids[rank]) or ""

    def end(self, rank: int) -> None:
        """SIGKILL: a rank that holds its interpreter lock never acts on torchrun's SIGTERM, and keeps it waiting."""
        with suppress(OSError):
            os.kill(self._pids[rank], signal.SIGKILL)

    def _watch(self) -> None:
        poll, open_ = select.poll(), {}
        for rank, pid in self._pids.items():
            try:
                descriptor = os.pidfd_open(pid)
            except OSError:
                self._tell(rank, pid)
                continue
            open_[descriptor] = rank
            poll.register(descriptor, select.POLLIN)
        while open_:
            for descriptor, _ in poll.poll():
                rank = open_.pop(descriptor)
                self._tell(rank, self._pids[rank])
                poll.unregister(descriptor)
                os.close(descriptor)

    def _tell(self, rank: int, pid: int) -> None:
        death = death_of(rank, _wait_status(pid), words.read(self._folder, rank, pid))
        if death is not None:
            self._mourn(death)


def death_of(rank: int, status: int | None, said: str | None) -> Death | None:
    """None: it ended by a way of its own. `status` as wait() gives it, None if torchrun was faster."""
    if said is None:
        return None
    number = _signal(status, said)
    if number is not None:
        hint = ": often the machine or the container ran out of memory" if number is signal.SIGKILL else ""
        return Death(rank=rank, type=number.name, message=f"rank {rank} was killed by {number.name}{hint}", stack=said)
    if status is not None:
        code = os.waitstatus_to_exitcode(status)
        return Death(rank=rank, type="Exit", message=f"rank {rank} ended itself with exit code {code}", stack=said)
    message = f"rank {rank} ended without a word: killed from outside, or it left by os._exit"
    return Death(rank=rank, type="Exit", message=message, stack=said)


def _signal(status: int | None, said: str) -> signal.Signals | None:
    if status is not None and os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status))
    return _CRASHES.get(words.crash_of(said) or "")


def _wait_status(pid: int) -> int | None:
    """Of a process that has ended and was not collected yet (proc(5), exit_code)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[49]) if fields[0] == "Z" else None
