"""The wall to the Kubernetes API, against a server that answers as a test says."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator.backends import kubeflow_wall
from orchestrator.backends.kubeflow import KubeflowBackend
from orchestrator.backends.kubeflow_wall import Kube, Lost, Refused
from orchestrator.errors import BackendError, Invalid
from orchestrator.place import PyTorchJobs, places_of
from orchestrator.settings import Settings


@dataclass
class Script:
    """What the server answers next, and what it was asked."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0
    silent: threading.Event = field(default_factory=threading.Event)

    def says(self, status: int, message: str = "", **headers: str) -> None:
        self.status, self.headers = status, headers
        self.body = json.dumps({"kind": "Status", "message": message}).encode()


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    script.silent.set()

    class Asked(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            script.asked.append((self.command, self.path))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.silent.wait(timeout=10)
            self.send_response(script.status)
            for name, value in script.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(script.body)))
            self.end_headers()
            self.wfile.write(script.body)

        do_GET = do_POST = do_DELETE = do_PATCH = do

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    server.daemon_threads = True
    script.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield script
    script.silent.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def kubeconfig(script: Script, tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    told: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{script.port}"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(told))
    return path


@pytest.fixture
def kube(kubeconfig: Path) -> Iterator[Kube]:
    kube = Kube(kubeconfig)
    yield kube
    kube.close()


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "bad", "rejected"),
        (401, "who", "unauthorized"),
        (403, 'pytorchjobs is forbidden: User "x" cannot create', "forbidden"),
        (403, 'admission webhook "v" denied the request: no', "rejected"),
        (403, 'pods "p" is forbidden: violates PodSecurity "restricted"', "rejected"),
        (403, "exceeded quota: jobs", "quota"),
        (404, "no", "not_found"),
        (409, "already exists", "conflict"),
        (410, "too old", "gone"),
        (422, "invalid", "rejected"),
        (429, "slow down", "throttled"),
        (500, 'Internal error occurred: failed calling webhook "v": refused', "operator_away"),
        (500, "etcd", "backend_unavailable"),
        (503, "starting", "backend_unavailable"),
    ],
)
def test_every_refusal_has_one_meaning_and_keeps_its_words(
    script: Script, kube: Kube, status: int, message: str, code: str
) -> None:
    script.says(status, message)
    with pytest.raises(Refused) as refusal:
        kube.call("POST", "/things", {"a": 1})
    assert (refusal.value.status, refusal.value.code) == (status, code)
    assert message in refusal.value.message


def test_after_429_nobody_calls_before_the_moment_that_it_named(script: Script, kube: Kube) -> None:
    script.says(429, "slow down", Retry_After="1")
    with pytest.raises(Refused):
        kube.call("GET", "/things")
    script.says(200)
    held = time.monotonic()

    with pytest.raises(Refused, match="of quiet"):
        kube.call("GET", "/things")
    assert len(script.asked) == 1
    while True:
        try:
            kube.call("GET", "/things")
            break
        except Refused:
            assert time.monotonic() - held < 30
    assert time.monotonic() - held > 0.8
    assert len(script.asked) == 2


def test_a_server_that_does_not_answer_is_lost_after_the_bound(
    script: Script, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeflow_wall, "READ_S", 0.3)
    script.silent.clear()
    began = time.monotonic()
    with pytest.raises(Lost, match="does not answer POST /things"):
        kube.call("POST", "/things", {})
    assert time.monotonic() - began < 12, "it would be fifteen seconds"
    assert len(script.asked) == 1, "a call that may have been carried out is not repeated here"


def test_nobody_there_is_lost(tmp_path: Path, kubeconfig: Path, script: Script) -> None:
    kubeconfig.write_text(kubeconfig.read_text().replace(str(script.port), "1"))
    with pytest.raises(Lost):
        Kube(kubeconfig).call("GET", "/things")


def test_what_is_no_status_document_is_shown_as_it_came(script: Script, kube: Kube) -> None:
    script.says(502)
    script.body = b"<html>bad gateway</html>"
    with pytest.raises(Refused, match="bad gateway"):
        kube.call("GET", "/things")


def test_a_cluster_without_pytorchjobs_is_said_with_the_remedy(script: Script, kubeconfig: Path) -> None:
    for status, body in ((404, b"{}"), (200, b'{"resources": [{"name": "tfjobs"}]}')):
        script.status, script.body = status, body
        backend = KubeflowBackend(
            PyTorchJobs(namespace="team", installation="muster"),
            namespace="team",
            installation="muster",
            kube=Kube(kubeconfig),
        )
        with pytest.raises(BackendError, match="install the Kubeflow training operator") as refusal:
            backend.check()
        backend.close()
        assert refusal.value.code == "no_pytorchjobs"


def test_a_replica_starts_without_an_api_server_but_not_without_credentials(
    tmp_path: Path, kubeconfig: Path, script: Script
) -> None:
    kubeconfig.write_text(kubeconfig.read_text().replace(str(script.port), "1"))
    places_of(Settings(folder=tmp_path, backend="kubeflow", kubeconfig=kubeconfig)).close()
    for given in (None, tmp_path / "nowhere"):
        with pytest.raises(BackendError, match="MUSTER_KUBECONFIG") as refusal:
            places_of(Settings(folder=tmp_path, backend="kubeflow", kubeconfig=given))
        assert refusal.value.code == "no_credentials"
    with pytest.raises(Invalid, match="local and kubeflow"):
        places_of(Settings(folder=tmp_path, backend="slurm"))


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(BackendError, match=r"muster-orchestrator\[kubeflow\]") as refusal:
        places_of(Settings(folder=tmp_path, backend="kubeflow", kubeconfig=kubeconfig))
    assert refusal.value.code == "not_installed"


def test_the_service_starts_without_importing_the_kubernetes_client() -> None:
    code = "import sys, orchestrator.service.running; print('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
