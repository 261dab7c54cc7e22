"""One gang on this machine and the few words of docs/protocol.md that it needs: for `muster dev`, no service, no store.

One request at a time; nothing is kept. Not for anything but trying a handler out.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from orchestrator.errors import BackendError

TOKEN = "dev"  # noqa: S105 - on loopback, for the minutes that `muster dev` runs


class Desk:
    """The service's side. `ask` runs one request and returns its finish."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)
        self._changed = threading.Condition()
        self._leases: list[dict[str, Any]] = []
        self._finishes: dict[str, dict[str, Any]] = {}
        self._broken: str | None = None
        self._drain = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _door(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def ask(self, given: Mapping[str, Any], outputs: Path, agent: subprocess.Popen[bytes]) -> dict[str, Any]:
        attempt = f"att_{secrets.token_hex(8)}"
        lease = {
            "attempt": attempt,
            "request": attempt.replace("att", "req"),
            "number": 1,
            "token": TOKEN,
            "input": dict(given),
            "timeout_s": None,
            "no_progress_s": None,
            "cancel_grace_s": 15.0,
            "output_prefix": outputs.absolute().as_uri(),
        }
        with self._changed:
            self._leases = [lease]
            self._changed.notify_all()
            while attempt not in self._finishes:
                if self._broken or agent.poll() is not None:
                    raise BackendError(self._broken or "the gang ended before it answered", code="gang_lost")
                self._changed.wait(0.5)
            return self._finishes[attempt]

    def drain(self) -> None:
        with self._changed:
            self._drain = True
            self._changed.notify_all()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, query: Mapping[str, list[str]], body: dict[str, Any]) -> Any:
        match path.removeprefix("/internal/v1/").split("/"):
            case ["gangs", _, "ranks", "0", "hello"]:
                found = {"incarnation": 1, "token": TOKEN, "config": self._config}
                return found | {"beat_s": 1.0, "poll_s": 5.0, "lease_s": 30.0, "log_flush_s": 1.0}
            case ["gangs", _, "ranks", _, "hello"]:
                return {"incarnation": 1}
            case ["gangs", _, "ranks", _, "ready"]:
                return {"gang_ready": True}
            case ["gangs", _, "work"]:
                self._changed.wait_for(lambda: self._leases or self._drain, float(query["wait"][0]))
            case ["gangs", _, "beat"]:
                return {"action": "continue", "attempts": {}}
            case ["gangs", _, "ranks", rank, "error"] if body.get("exiting"):
                self._broken = f"rank {rank}: {body.get('type')}: {body.get('message')}"
            case ["attempts", attempt, "finish"]:
                self._leases = []
                self._finishes[attempt] = body
            case _:
                return {}
        return {"action": "drain" if self._drain else "continue", "work": self._leases}

    def hear(self, path: str, query: Mapping[str, list[str]], body: dict[str, Any]) -> Any:
        with self._changed:
            answer = self.answer(path, query, body)
            self._changed.notify_all()
            return answer


class Gang:
    """torchrun with the runtime in it. Its output goes to our standard error."""

    def __init__(self, config: Mapping[str, Any], ranks: int, scratch: Path, env: Mapping[str, str]) -> None:
        self._desk = Desk(config)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        variables = {
            **os.environ,
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            **env,
            "MUSTER_API_URLS": self._desk.url,
            "MUSTER_GANG": "gng_dev",
            "MUSTER_TOKEN": TOKEN,
            "MUSTER_SCRATCH": str(scratch),
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            "TORCH_CPP_LOG_LEVEL": "ERROR",
        }
        self._agent = subprocess.Popen([*command, "-m", "inference"], env=variables, stdout=2)

    def __enter__(self) -> Gang:
        return self

    def __exit__(self, *_: object) -> None:
        self._desk.drain()
        try:
            self._agent.wait(20)
        except subprocess.TimeoutExpired:
            self._agent.terminate()
            self._agent.wait(20)
        self._desk.close()

    def ask(self, given: Mapping[str, Any], outputs: Path) -> dict[str, Any]:
        """The finish of one request; its outputs lie in `outputs`."""
        return self._desk.ask(given, outputs, self._agent)


def _door(desk: Desk) -> type[BaseHTTPRequestHandler]:
    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            """Silence."""

        def _serve(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            url = urlsplit(self.path)
            known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            found = desk.hear(url.path, parse_qs(url.query), json.loads(content) if content else {}) if known else {}
            sent = json.dumps(found).encode()
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = _serve

    return Door
