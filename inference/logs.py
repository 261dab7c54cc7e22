"""A rank's output cut into chunks that belong to one request each, and kept until the service has them.

Pure text and memory: `capture` feeds it, `shipping` empties it. Bounded everywhere: a silent service costs old lines,
never a blocked rank.
"""

import codecs
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ATTEMPT_BYTES = 8 << 20
PENDING_BYTES = 4 << 20
CHUNK_BYTES = 64 << 10
LINE_BYTES = 64 << 10  # a line longer than this is cut
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(kw_only=True)
class Chunk:
    request: str | None
    at: float
    text: str
    seq: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"seq": self.seq, "request": self.request, "at": round(self.at, 3), "text": self.text}


class Turns:
    """Where in the stream another request begins or ends, as byte offsets: ahead of what has been read."""

    def __init__(self) -> None:
        self._ahead: deque[tuple[int, str | None]] = deque()
        self._read_bytes = 0

    def expect(self, unread_bytes: int, request: str | None) -> None:
        """After the next `unread_bytes`, what comes belongs to `request`."""
        self._ahead.append((self._read_bytes + unread_bytes, request))

    def split(self, content: bytes) -> Iterator[tuple[bytes, list[str | None]]]:
        """Pieces of what was just read, each with the turns right after it."""
        while content:
            length = min(len(content), self._ahead[0][0] - self._read_bytes) if self._ahead else len(content)
            self._read_bytes += length
            yield content[:length], list(self._passed())
            content = content[length:]

    def _passed(self) -> Iterator[str | None]:
        while self._ahead and self._ahead[0][0] <= self._read_bytes:
            yield self._ahead.popleft()[1]

    def __bool__(self) -> bool:
        return bool(self._ahead)


class Lines:
    """Bytes to whole lines. A carriage return ends a line too: progress bars become readable logs."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial = ""
        self._skip_newline = False

    def feed(self, content: bytes) -> str:
        text = self._decoder.decode(content)
        if self._skip_newline and text:
            text, self._skip_newline = text.removeprefix("\n"), False
        if text.endswith("\r"):
            self._skip_newline = True  # the \n of a \r\n may still come
        whole: list[str] = []
        position = 0
        for end in _LINE_END.finditer(text):
            line = self._partial + text[position : end.start()]
            self._partial, position = "", end.end()
            if line or end[0] != "\r":  # bars return before they write: no empty line for that
                whole.append(line + "\n")
        self._partial += text[position:]
        if len(self._partial) > LINE_BYTES:
            whole.append(self.finish())
        return "".join(whole)

    def finish(self) -> str:
        """The line without an end, at the end of a request or of the process."""
        line, self._partial = self._partial, ""
        return line + "\n" if line else ""


class Buffer:
    """Chunks that wait for the service. Thread-safe."""

    def __init__(self) -> None:
        self.filled = threading.Condition()
        self._chunks: deque[Chunk] = deque()
        self._in_flight: list[Chunk] = []
        self._seq = 0
        self._pending_bytes = 0
        self._dropped_bytes = 0
        self._request: str | None = None
        self._request_bytes = 0

    def turn_to(self, request: str | None) -> None:
        """What is added from now on belongs to `request`, or to the gang."""
        self._request, self._request_bytes = request, 0

    def add(self, text: str) -> None:
        text = self._capped(text)
        if not text:
            return
        with self.filled:
            last = self._chunks[-1] if self._chunks else None
            if last is not None and last.request == self._request and len(last.text) < CHUNK_BYTES:
                last.text += text
            else:
                self._chunks.append(Chunk(request=self._request, at=time.time(), text=text))
            self._pending_bytes += len(text)
            self._drop_oldest()
            self.filled.notify_all()

    def take(self, limit_bytes: int = 4 * CHUNK_BYTES) -> list[Chunk]:
        """The oldest chunks, numbered. The same ones again until `settle` says that they arrived."""
        with self.filled:
            if not self._in_flight:
                self._number(limit_bytes)
            return list(self._in_flight)

    def settle(self) -> None:
        with self.filled:
            self._in_flight.clear()
            self.filled.notify_all()

    def holds(self, request: str | None) -> bool:
        """Whether something of this request has not arrived yet. Call it with `filled` held."""
        return any(chunk.request == request for chunk in (*self._in_flight, *self._chunks))

    def is_empty(self) -> bool:
        return not self._chunks and not self._in_flight

    def _number(self, limit_bytes: int) -> None:
        size = 0
        while self._chunks and size < limit_bytes:
            chunk = self._chunks.popleft()
            self._pending_bytes -= len(chunk.text)
            if self._dropped_bytes:
                lost, self._dropped_bytes = self._dropped_bytes, 0
                chunk.text = f"[muster: {lost} bytes of output dropped, the service could not be reached]\n{chunk.text}"
            self._seq += 1
            chunk.seq = self._seq
            size += len(chunk.text)
            self._in_flight.append(chunk)

    def _capped(self, text: str) -> str:
        if self._request is None:
            return text
        room = ATTEMPT_BYTES - self._request_bytes
        self._request_bytes += len(text)
        if room <= 0:
            return ""
        if len(text) <= room:
            return text
        return f"{text[:room]}\n[muster: truncated, more than {ATTEMPT_BYTES >> 20} MiB of output in this attempt]\n"

    def _drop_oldest(self) -> None:
        while self._pending_bytes > PENDING_BYTES and len(self._chunks) > 1:
            oldest = self._chunks.popleft()
            self._pending_bytes -= len(oldest.text)
            self._dropped_bytes += len(oldest.text)
