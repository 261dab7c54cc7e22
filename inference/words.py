"""A rank's last words: a file on the node that C code fills when Python cannot, and that the node's other ranks read.

faulthandler writes it in three cases that no Python thread lives through: a crash signal (its handler in C), a main
thread that keeps the interpreter lock (a C thread that needs none, armed ahead and armed again by the watch thread as
long as that one gets the lock), and never otherwise. A rank that leaves by a way of its own says `left` in it, so a
process that is gone without that word was killed. py-spy would need a capability in the pod and an install; this
needs neither.
"""

import faulthandler
import os
import re
import threading
from contextlib import suppress
from pathlib import Path

WORDS_BYTES = 64 << 10
_LEFT = b"left "
_CRASH = re.compile(r"Fatal Python error: (.+)")


class LastWords:
    """The file of this process. Every method may be called from any thread."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"rank-{rank}-*"):
            with suppress(OSError):
                old.unlink()
        path = file_of(folder, rank, os.getpid())
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600), "rb+")
        self._guard = threading.Lock()
        self._left = False
        faulthandler.enable(self._file)

    def arm(self, after_s: float) -> None:
        """If nobody arms again within this time, the stacks of all threads are written."""
        with self._guard:
            if self._left:
                return
            faulthandler.cancel_dump_traceback_later()
            if os.fstat(self._file.fileno()).st_size:
                os.ftruncate(self._file.fileno(), 0)  # the lock was held long, but not for ever
            faulthandler.dump_traceback_later(after_s, file=self._file)

    def farewell(self, code: int) -> None:
        """This rank ends by a way of its own, and says why itself."""
        with self._guard, suppress(OSError):
            self._left = True
            os.write(self._file.fileno(), _LEFT + str(code).encode())


def folder_of(scratch: Path, node: str) -> Path:
    """Where the ranks of a node leave theirs."""
    return scratch / "words" / node


def file_of(folder: Path, rank: int, pid: int) -> Path:
    return folder / f"rank-{rank}-{pid}"


def read(folder: Path, rank: int, pid: int) -> str | None:
    """What the rank's process left. None: it ended by a way of its own."""
    try:
        with file_of(folder, rank, pid).open("rb") as file:
            content = file.read(WORDS_BYTES)
    except OSError:
        return ""
    return None if _LEFT in content else content.decode(errors="replace")


def crash_of(words: str) -> str | None:
    """`Segmentation fault`, `Aborted`, ... if the words are those of a crash."""
    found = _CRASH.search(words)
    return found[1].strip() if found else None
