"""An API server that answers SubjectAccessReviews alone, by a list of who may do what where. Over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Right = tuple[str, str, str]
"""A user or group, a namespace, a verb."""
VIEW = ("get", "list", "watch")
EDIT = (*VIEW, "create", "delete", "update", "patch")


@dataclass
class Reviewing:
    """`rights` may change at any time; `status` is what every call is answered with, if not 201."""

    url: str = ""
    rights: set[Right] = field(default_factory=set)
    asked: list[dict[str, Any]] = field(default_factory=list)
    status: int = 201
    go: threading.Event = field(default_factory=threading.Event)
    """Nothing is answered while it is not set."""
    heard: int = 0
    """Questions that came, answered or not."""

    def bind(self, who: str, namespace: str, *verbs: str) -> None:
        self.rights |= {(who, namespace, verb) for verb in verbs}

    def allowed(self, spec: dict[str, Any]) -> bool:
        what = spec["resourceAttributes"]
        assert (what["group"], what["resource"]) == ("kubeflow.org", "pytorchjobs")
        return any((who, what["namespace"], what["verb"]) in self.rights for who in (spec["user"], *spec["groups"]))

    def kubeconfig(self, folder: Path) -> Path:
        path = folder / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "clusters": [{"name": "c", "cluster": {"server": self.url}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        return path


@contextmanager
def reviewing() -> Iterator[Reviewing]:
    told = Reviewing()
    told.go.set()

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.heard += 1
            told.go.wait(30)
            told.asked.append(body["spec"])
            answer = {"status": {"allowed": told.allowed(body["spec"])}} if told.status == 201 else {"message": "no"}
            sent = json.dumps(answer).encode()
            self.send_response(told.status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        told.go.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
