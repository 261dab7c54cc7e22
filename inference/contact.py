"""When the service last answered a rank of this node. It lies in a file, so no restart of ranks makes it young again.

The file's time of change is a reading of the machine's monotonic clock, which all processes share and nobody sets.
Knows no HTTP; whoever gets an answer notes it.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

NOTED_EVERY_S = 1.0


class Contact:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._noted_at = float("-inf")

    @classmethod
    def of_node(cls, scratch: Path, node: str) -> "Contact":
        return cls(scratch / "contact" / node)

    def begin(self) -> None:
        """The start of the gang counts as contact; a later start, or one after a restart of its agent, does not."""
        if self._read() is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            self._write()

    def note(self) -> None:
        """The service answered."""
        if time.monotonic() - self._noted_at < NOTED_EVERY_S:
            return
        self._noted_at = time.monotonic()
        with suppress(OSError):  # a full or lost scratch is for others to find
            if not self._path.exists():
                self.begin()
            self._write()

    @property
    def at(self) -> float:
        """By time.monotonic(). Now, if nothing is known."""
        known = self._read()
        return time.monotonic() if known is None else known

    @property
    def silent_s(self) -> float:
        return time.monotonic() - self.at

    def _read(self) -> float | None:
        """None: never, or by the clock of an earlier boot."""
        try:
            at = self._path.stat().st_mtime_ns / 1e9
        except OSError:
            return None
        return at if at <= time.monotonic() else None

    def _write(self) -> None:
        now = time.monotonic_ns()
        os.utime(self._path, ns=(now, now))
