"""Takes over file descriptors 1 and 2 of this process, so that C++ and child processes are heard as well as print.

Both descriptors become one pipe: order is kept. A pump thread reads it, writes each line on to the original standard
output with the rank in front, and fills the buffer. Knows no HTTP.
"""

import ctypes
import fcntl
import os
import sys
import threading
from contextlib import suppress

from inference.logs import Buffer, Lines, Marks

PIPE_BYTES = 1 << 20  # a rank that writes while it holds the interpreter lock must not wait for the pump
READ_BYTES = 1 << 16
_CLOSE = "close"


class Capture:
    def __init__(self, rank: int, buffer: Buffer) -> None:
        self._buffer = buffer
        self._prefix = f"[r{rank}] "
        self._marks = Marks()
        self._lines = Lines()
        self._reader, self._writer = os.pipe()
        with suppress(OSError, AttributeError):
            fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._original = (os.dup(1), os.dup(2))
        self._written = 0
        self._seen = 0
        self._passed = threading.Condition()
        self._libc = ctypes.CDLL(None)
        self._pump_thread = threading.Thread(target=self._pump, name="muster-log-pump", daemon=True)
        self._open = False

    def start(self) -> None:
        _flush_python()
        os.dup2(self._writer, 1)
        os.dup2(self._writer, 2)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)
        self._open = True
        self._pump_thread.start()

    def begin(self, request: str) -> None:
        """What is written from now on belongs to this request."""
        self._mark(f"begin {request}")

    def end(self) -> None:
        """What is written from now on belongs to the gang."""
        self._mark("end")

    def wait_until_read(self, wait_s: float) -> bool:
        """Whether all that was written before the last mark is in the buffer."""
        with self._passed:
            return self._passed.wait_for(lambda: self._seen >= self._written, wait_s)

    def write(self, text: str) -> None:
        """For a dying rank's last words: into the stream, whatever has become of sys.stderr."""
        with suppress(OSError):
            os.write(2, text.encode())

    def close(self) -> None:
        """Gives the descriptors back; output after this goes to the original ones only."""
        if not self._open:
            return
        self._open = False
        self._mark(_CLOSE)
        os.dup2(self._original[0], 1)
        os.dup2(self._original[1], 2)
        self._pump_thread.join(1.0)

    def _mark(self, word: str) -> None:
        _flush_python()
        self._libc.fflush(None)
        self._written += 1
        os.write(self._writer, self._marks.mark(word))

    def _pump(self) -> None:
        while read := os.read(self._reader, READ_BYTES):
            for part in self._marks.split(read):
                if isinstance(part, bytes):
                    self._take(self._lines.feed(part))
                    continue
                self._take(self._lines.finish())
                self._turn(part)
                if part == _CLOSE:
                    return

    def _take(self, text: str) -> None:
        if not text:
            return
        self._buffer.add(text)
        echo = self._prefix + text[:-1].replace("\n", "\n" + self._prefix) + "\n"
        with suppress(OSError):  # nobody reads the original any more
            os.write(self._original[0], echo.encode())

    def _turn(self, word: str) -> None:
        kind, _, request = word.partition(" ")
        self._buffer.turn_to(request if kind == "begin" else None)
        with self._passed:
            self._seen += 1
            self._passed.notify_all()


def _flush_python() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
