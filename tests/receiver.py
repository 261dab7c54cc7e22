"""A receiver of webhooks for tests: a real HTTP or HTTPS server on loopback that answers as the test says."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One call as it came."""

    path: str
    headers: dict[str, str]
    body: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The message, checked as a receiver checks it."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    port: int
    scheme: str = "http"
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    reply: bytes = b""
    heard: list[Heard] = field(default_factory=list)
    open: int = 0
    most_open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    before: Callable[[], None] = lambda: None
    """Called before it answers."""

    @property
    def origin(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/hook"


@contextmanager
def receiver(tls: ssl.SSLContext | None = None, port: int = 0, **changes: Any) -> Iterator[Receiver]:
    server = _Server(("127.0.0.1", port), _Door)
    server.receiver = Receiver(port=server.server_address[1], scheme="https" if tls else "http", **changes)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.receiver
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


class _Server(ThreadingHTTPServer):
    receiver: Receiver
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: Any) -> None:
        pass  # a sender that does not like our certificate


class _Door(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        here: Receiver = self.server.receiver  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        with here.lock:
            here.heard.append(Heard(path=self.path, headers=headers, body=body))
            here.open += 1
            here.most_open = max(here.most_open, here.open)
        here.before()
        with here.lock:
            here.open -= 1
        self.send_response(here.status)
        for name, value in here.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(here.reply)))
        self.end_headers()
        with suppress(OSError):  # the sender read as much as it wanted
            self.wfile.write(here.reply)

    do_GET = do_POST
