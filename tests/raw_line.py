"""A plain socket to a replica: tests decide every byte and when it goes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit


class RawLine:
    """One connection."""

    def __init__(self, line: socket.socket, host: str) -> None:
        self.socket, self.host = line, host
        self._got = b""

    def send(self, *parts: str | bytes) -> None:
        """Each part in a packet of its own, as far as the system lets us. A line that was closed takes nothing."""
        for part in parts:
            content = part.encode("latin-1") if isinstance(part, str) else part
            self.socket.sendall(content.replace(b"{host}", self.host.encode()))

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers, and the JSON or text of the next answer. Raises ConnectionError when there is none."""
        while b"\r\n\r\n" not in self._got:
            self._more()
        head, _, self._got = self._got.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        while len(self._got) < length:
            self._more()
        body, self._got = self._got[:length], self._got[length:]
        is_json = "json" in headers.get("content-type", "")
        return int(lines[0].split()[1]), headers, json.loads(body) if is_json else body

    def is_closed(self) -> bool:
        """Waits for the other end to close, at most the socket's timeout."""
        try:
            while part := self.socket.recv(65536):
                self._got += part
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def _more(self) -> None:
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError(f"closed after {self._got!r}")
        self._got += part


@contextmanager
def raw_line(url: str, timeout_s: float = 20.0) -> Iterator[RawLine]:
    """A new connection."""
    where = urlsplit(url)
    with socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=timeout_s) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield RawLine(line, where.netloc)
