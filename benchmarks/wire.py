"""Two lean HTTP/1.1 clients over one kept-alive connection each: the load must not weigh more than what it measures."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
from typing import Any, Self
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

Answer = tuple[int, Any]


class Line:
    """Blocking; one thread. The same for every target of a comparison."""

    def __init__(self, url: str, token: str = "", timeout_s: float = 120.0) -> None:
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=timeout_s)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Status and JSON. Header names are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, content, {**self._headers, **named})
        answer = self._connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def good(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The JSON of an answer below 300. Raises RuntimeError for any other."""
        status, answer = self.call(method, path, body, **headers)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def close(self) -> None:
        self._connection.close()


class AsyncLine:
    """For many at once on one event loop. Knows Content-Length and nothing else of HTTP."""

    def __init__(self, url: str, token: str = "") -> None:
        self._url = urlsplit(url)
        self.token = token
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        self._writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    async def call(self, method: str, path: str, body: Any = None, headers: str = "") -> Answer:
        """`headers` are whole lines, each with its CRLF."""
        assert self._reader is not None, "open() it first"
        assert self._writer is not None
        content = b"" if body is None else json.dumps(body).encode()
        self._writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {self._url.netloc}\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n{headers}\r\n".encode()
            + content
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        text = await self._reader.readexactly(int(found.group(1))) if found else b""
        return int(head[9:12]), json.loads(text) if text else None

    async def good(self, method: str, path: str, body: Any = None, headers: str = "") -> Any:
        """The JSON of an answer below 300. Raises RuntimeError for any other."""
        status, answer = await self.call(method, path, body, headers)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
