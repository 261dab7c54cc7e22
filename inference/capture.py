"""Takes over file descriptors 1 and 2 of this process, so that C++ and child processes are heard as well as print.

Both descriptors become one pipe: order is kept. A pump thread reads it, writes each line on to the original standard
output with the rank in front, and fills the buffer. Which bytes belong to which request is told by their offset in the
pipe, so a request that prints nothing wakes no thread. Knows no HTTP.
"""

import ctypes
import fcntl
import os
import select
import struct
import sys
import termios
import threading
from contextlib import suppress

from inference.logs import Buffer, Lines, Turns

PIPE_BYTES = 1 << 20  # a rank that writes while it holds the interpreter lock must not wait for the pump
READ_BYTES = 1 << 16


class Capture:
    def __init__(self, rank: int, buffer: Buffer) -> None:
        self._buffer = buffer
        self._prefix = f"[r{rank}] "
        self._lines = Lines()
        self._turns = Turns()
        self._caught_up = threading.Condition()  # guards the two above and every read of the pipe
        self._reader, self._writer = os.pipe()
        with suppress(OSError, AttributeError):
            fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._original = (os.dup(1), os.dup(2))
        self._libc = ctypes.CDLL(None)
        self._open = False

    def start(self) -> None:
        _flush_python()
        os.dup2(self._writer, 1)
        os.dup2(self._writer, 2)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)
        self._open = True
        threading.Thread(target=self._pump, name="muster-log-pump", daemon=True).start()

    def turn_to(self, request: str | None) -> None:
        """What is written from now on belongs to this request, or to the gang."""
        _flush_python()
        self._libc.fflush(None)
        with self._caught_up:
            unread = self._unread_bytes()
            if unread or self._turns:
                self._turns.expect(unread, request)
                return
            rest = self._turn(request)
        self._echo(rest)

    def wait_until_read(self, wait_s: float) -> bool:
        """Whether all that was written before the last turn is in the buffer."""
        with self._caught_up:
            return self._caught_up.wait_for(lambda: not self._turns, wait_s)

    def write(self, text: str) -> None:
        """For a dying rank's last words: into the stream, whatever has become of sys.stderr."""
        with suppress(OSError):
            os.write(2, text.encode())

    def close(self) -> None:
        """Gives the descriptors back; output after this goes to the original ones only."""
        if not self._open:
            return
        self._open = False
        self.turn_to(None)
        os.dup2(self._original[0], 1)
        os.dup2(self._original[1], 2)
        self.wait_until_read(1.0)

    def _pump(self) -> None:
        while True:
            select.select([self._reader], [], [])
            with self._caught_up:
                text = self._take(os.read(self._reader, READ_BYTES))
                self._caught_up.notify_all()
            self._echo(text)

    def _take(self, content: bytes) -> str:
        text = ""
        for piece, turns in self._turns.split(content):
            whole = self._lines.feed(piece)
            self._buffer.add(whole)
            text += whole + "".join(self._turn(request) for request in turns)
        return text

    def _turn(self, request: str | None) -> str:
        rest = self._lines.finish()
        self._buffer.add(rest)
        self._buffer.turn_to(request)
        return rest

    def _echo(self, text: str) -> None:
        if not text:
            return
        lines = self._prefix + text[:-1].replace("\n", "\n" + self._prefix) + "\n"
        with suppress(OSError):  # nobody reads the original any more
            os.write(self._original[0], lines.encode())

    def _unread_bytes(self) -> int:
        (count,) = struct.unpack("i", fcntl.ioctl(self._reader, termios.FIONREAD, b"\0" * 4))
        return int(count)


def _flush_python() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
