"""The service's side of docs/protocol.md, in memory, doing what a test tells it; and gangs to speak to it.

Only for tests of the runtime: it keeps no rules of its own beyond the protocol's.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
GANG_TOKEN = "gang-token"
FINISH_BYTES = 1 << 20


def eventually(read: Callable[[], T], within_s: float = 60.0, what: str = "it") -> T:
    """The first true value of `read`."""
    deadline = time.monotonic() + within_s
    while not (value := read()):
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s} s"
        time.sleep(0.02)
    return value


class ScriptedService:
    """Everything that the gang said is kept in lists; `submit` grants a lease."""

    def __init__(self, outputs: Path, config: dict[str, Any] | None = None, **hello: Any) -> None:
        self.changed = threading.Condition()
        self.config = {
            "template": "echo",
            "version": 1,
            "mode": "serve",
            "handler": "inference.samples.echo:Echo",
            "args": {"hooks": True},
            "workdir": None,
            "data_backend": "auto",
            "data_timeout_s": 2.0,
            **(config or {}),
        }
        self.hello_answer = {"beat_s": 0.5, "poll_s": 2.0, "lease_s": 30.0, "log_flush_s": 0.1, **hello}
        self.outputs = outputs
        self.incarnation = 0
        self.nonce = ""
        self.world = 0
        self.pids: dict[int, int] = {}
        self.ready: set[int] = set()
        self.told_ready: dict[int, dict[str, Any]] = {}
        self.drain = False
        self.parks_words = False  # an older service does not know the question
        self.away = False  # answers 503 to everything
        self.bad_output = False  # refuses successes for their outputs, as older services did
        self.leases: dict[str, dict[str, Any]] = {}
        self.granted: dict[str, dict[str, Any]] = {}  # all leases there ever were
        self.words: dict[str, str] = {}  # what the beat answers per attempt
        self.beats: list[dict[str, Any]] = []
        self.finishes: dict[str, dict[str, Any]] = {}
        self.errors: list[dict[str, Any]] = []
        self.leaves: list[dict[str, Any]] = []
        self.chunks: list[dict[str, Any]] = []
        self.seen: list[str] = []
        self._numbers = iter(range(1, 1_000_000))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._door())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # --- for tests ---

    def submit(self, hooks: dict[str, Any] | None = None, **fields: Any) -> str:
        """A lease for the gang; the attempt's ID."""
        policy = {name: fields.pop(name) for name in ("timeout_s", "no_progress_s", "cancel_grace_s") if name in fields}
        files = fields.pop("policy_files", {})
        number = next(self._numbers)
        attempt = f"att_{number}"
        asked = fields | ({"hooks": hooks} if hooks else {})
        with self.changed:
            self.leases[attempt] = {
                "attempt": attempt,
                "request": f"req_{number}",
                "number": 1,
                "token": f"lease-{number}",
                "input": asked,
                "files": files,
                "timeout_s": 60.0,
                "no_progress_s": None,
                "cancel_grace_s": 1.0,
                "output_prefix": (self.outputs / f"req_{number}" / "1").as_uri(),
                **policy,
            }
            self.granted[attempt] = self.leases[attempt]
            self.changed.notify_all()
        return attempt

    def again(self, attempt: str, number: int) -> str:
        """The next attempt of the same request, with what the first was asked for."""
        lease = self.granted[attempt]
        with self.changed:
            name = f"{attempt}_{number}"
            prefix = lease["output_prefix"].rpartition("/")[0]
            self.granted[name] = self.leases[name] = {
                **lease,
                "attempt": name,
                "number": number,
                "output_prefix": f"{prefix}/{number}",
            }
            self.changed.notify_all()
        return name

    def finished(self, attempt: str, within_s: float = 90.0) -> dict[str, Any]:
        with self.changed:
            assert self.changed.wait_for(lambda: attempt in self.finishes, within_s), (
                f"{attempt} did not finish; errors: {self.errors[-3:]}"
            )
            return self.finishes[attempt]

    def wait_ready(self, after: int = 0, within_s: float = 90.0) -> int:
        """Until all ranks of an incarnation later than `after` are ready."""
        with self.changed:
            assert self.changed.wait_for(
                lambda: self.incarnation > after and len(self.ready) == self.world, within_s
            ), f"incarnation {self.incarnation}: only {self.ready} ready"
            return self.incarnation

    def log_of(self, request: str, rank: int) -> str:
        return "".join(c["text"] for c in self.chunks if c["request"] == request and c["rank"] == rank)

    # --- the protocol ---

    def answer(self, method: str, path: str, query: dict[str, list[str]], token: str, body: Any) -> tuple[int, Any]:
        self.seen.append(f"{method} {path}")
        if self.away:
            return 503, {"code": "away"}
        parts = path.removeprefix("/internal/v1/").split("/")
        if parts[0] == "gangs" and parts[2:] == ["ranks", "0", "hello"]:
            return self._hello(token, body)
        if token != f"incarnation-{self.incarnation}":
            return 410, {"code": "gang_superseded"}
        match parts:
            case ["gangs", _, "ranks", rank, "hello"]:
                self.pids[int(rank)] = body["pid"]
                return 200, {"incarnation": self.incarnation}
            case ["gangs", _, "ranks", rank, "ready"]:
                self.ready.add(int(rank))
                self.told_ready[int(rank)] = body
                return 200, {"gang_ready": len(self.ready) == self.world}
            case ["gangs", _, "work"]:
                return self._work(float(query["wait"][0]))
            case ["gangs", _, "beat"]:
                self.beats.append(body)
                return 200, {"action": "continue", "attempts": self.words}
            case ["gangs", _, "ranks", rank, "error"]:
                self.errors.append({"rank": int(rank), **body})
                if body["exiting"]:
                    self.leases.clear()
                return 200, {}
            case ["gangs", _, "leave"]:
                self.leaves.append(body)
                self.leases.clear()
                return 200, {}
            case ["gangs", _, "logs"]:
                self.chunks += [{"rank": body["rank"], **chunk} for chunk in body["chunks"]]
                return 200, {}
            case ["attempts", attempt, "word"] if self.parks_words:
                self.changed.wait_for(
                    lambda: attempt in self.words or attempt not in self.leases, float(query["wait"][0])
                )
                return 200, {"word": self.words.get(attempt, "over" if attempt not in self.leases else "continue")}
            case ["attempts", attempt, "finish"]:
                return self._finish(attempt, body)
        return 404, {"code": "not_found"}

    def _hello(self, token: str, body: Any) -> tuple[int, Any]:
        if token != GANG_TOKEN:
            return 401, {"code": "unauthorized"}
        if body["nonce"] != self.nonce:
            self.nonce, self.world = body["nonce"], body["world"]
            self.incarnation += 1
            self.leases.clear()
            self.ready, self.pids = set(), {}
        self.pids[0] = body["pid"]
        answer = {"incarnation": self.incarnation, "token": f"incarnation-{self.incarnation}", "config": self.config}
        return 200, answer | self.hello_answer

    def _work(self, wait_s: float) -> tuple[int, Any]:
        self.changed.wait_for(lambda: self.leases or self.drain or self.away, wait_s)
        return 200, self._assignment()

    def _finish(self, attempt: str, body: Any) -> tuple[int, Any]:
        if len(json.dumps(body)) > FINISH_BYTES:
            return 413, {"code": "too_large"}
        if self.bad_output and body["outcome"] == "succeeded":
            return 409, {"code": "bad_output", "detail": "outside the storage"}
        lease = self.leases.pop(attempt, None)
        if lease is None or lease["token"] != body["token"]:
            return 409, {"code": "stale_lease"}
        self.finishes[attempt] = body
        return 200, self._assignment()

    def _assignment(self) -> dict[str, Any]:
        return {"action": "drain" if self.drain else "continue", "work": list(self.leases.values())}

    def _door(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                pass

            def _serve(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                url = urlsplit(self.path)
                with service.changed:
                    body = json.loads(content) if content else None
                    status, answer = service.answer(self.command, url.path, parse_qs(url.query), token, body)
                    service.changed.notify_all()
                sent = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = _serve

        return Door


class Gang:
    """torchrun agents with the runtime, each in a process group of its own."""

    def __init__(
        self, service: ScriptedService, scratch: Path, ranks: int, nodes: int = 1, restarts: int = 5, **variables: str
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            endpoint = f"127.0.0.1:{free.getsockname()[1]}"
        self.log = scratch / "torchrun.log"
        self.agents = [
            self._start_agent(service, scratch, node, nodes, ranks, endpoint, restarts, variables)
            for node in range(nodes)
        ]

    def _start_agent(
        self,
        service: ScriptedService,
        scratch: Path,
        node: int,
        nodes: int,
        ranks: int,
        endpoint: str,
        restarts: int,
        variables: dict[str, str],
    ) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "inference.agent", f"--nnodes={nodes}", f"--nproc-per-node={ranks}"]
        command += ["--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", "--rdzv-id=test", "--local-addr=127.0.0.1"]
        command += [f"--max-restarts={restarts}", f"--log-dir={scratch / 'agent'}", "-m", "inference"]
        environment = os.environ | {
            "MUSTER_API_URLS": service.url,
            "MUSTER_GANG": "gng_test",
            "MUSTER_TOKEN": GANG_TOKEN,
            "MUSTER_NODE": f"n{node}",
            "MUSTER_SCRATCH": str(scratch / "scratch"),
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            "OMP_NUM_THREADS": "1",
            **variables,
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)

    def wait(self, within_s: float = 90.0) -> list[int]:
        """The agents' exit codes."""
        deadline = time.monotonic() + within_s
        return [agent.wait(max(0.1, deadline - time.monotonic())) for agent in self.agents]

    def terminate(self) -> None:
        for agent in self.agents:
            agent.terminate()

    def kill(self) -> None:
        """Ranks die with their agent, but a test must not rely on what it tests."""
        for agent in self.agents:
            if agent.poll() is None:
                agent.kill()
            agent.wait(10)


def kill_rank(service: ScriptedService, rank: int) -> None:
    os.kill(service.pids[rank], signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
