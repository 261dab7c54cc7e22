"""One real API server with its etcd and its controllers, as processes that end with this object.

Kubernetes 1.20 and later: see README.md for what 1.20 lacks. Everything listens on loopback.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from .api import Api
from .binaries import Binaries

STARTED_S = 60.0


class ControlPlane:
    def __init__(self, folder: Path, binaries: Binaries) -> None:
        self._folder = folder
        self._binaries = binaries
        self._token = secrets.token_hex(16)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._etcd_port, self._peer_port, self.port = (free_port() for _ in range(3))
        self.url = f"https://127.0.0.1:{self.port}"
        self.api = Api(self.url, self._token)

    def start(self) -> None:
        """etcd and the API server."""
        key = self._folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (self._folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")
        self.kubeconfig("admin", self._token)
        self._begin("etcd", self._binaries.etcd, *self._etcd_flags())
        _until_answers(f"http://127.0.0.1:{self._etcd_port}/health")
        self.start_apiserver()

    def start_controllers(self) -> None:
        """Once all kinds are served: the garbage collector learns of later ones only every 30 s."""
        self._begin(
            "controllers",
            self._binaries.controller_manager,
            f"--kubeconfig={self._folder}/admin.kubeconfig",
            "--controllers=garbagecollector,namespace,endpoint,podgc,disruption",
            "--port=0",
            "--secure-port=0",
            "--leader-elect=false",
        )

    def start_apiserver(self) -> None:
        """Also again, after kill_apiserver()."""
        key = self._folder / "sa.key"
        self._begin(
            "apiserver",
            self._binaries.apiserver,
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self._folder}/certs",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--token-auth-file={self._folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--event-ttl=1h",
        )
        _until_answers(f"{self.url}/readyz", self._token)

    def kill_apiserver(self) -> None:
        """SIGKILL; etcd keeps everything."""
        self._end("apiserver", signal.SIGKILL)

    def freeze_apiserver(self) -> None:
        """Connections stay open, nobody answers."""
        self._processes["apiserver"].send_signal(signal.SIGSTOP)

    def thaw_apiserver(self) -> None:
        self._processes["apiserver"].send_signal(signal.SIGCONT)

    def compact(self) -> None:
        """Let etcd forget all old revisions: who watches from one of them gets 410."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self._etcd_port}") as etcd:
            status = etcd.post("/v3/maintenance/status", json={}).json()
            etcd.post("/v3/kv/compaction", json={"revision": status["header"]["revision"], "physical": True})

    def kubeconfig(self, name: str, token: str, *, url: str | None = None) -> Path:
        """A file for clients with that token; for another URL, say a proxy's, on the same address."""
        path = self._folder / f"{name}.kubeconfig"
        cluster = {"server": url or self.url, "certificate-authority": f"{self._folder}/certs/apiserver.crt"}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": name, "user": {"token": token}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
                    "current-context": "test",
                }
            )
        )
        path.chmod(0o600)
        return path

    def stop(self) -> None:
        self.api.close()
        for name in ("controllers", "apiserver", "etcd"):
            self._end(name, signal.SIGKILL)  # nothing of it is wanted any more, and a farewell takes seconds

    def _etcd_flags(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        return [
            f"--data-dir={self._folder}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ]

    def _begin(self, name: str, *command: Any) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder), "GOMAXPROCS": "2"},
                start_new_session=True,
            )

    def _end(self, name: str, number: signal.Signals) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """One that nobody has right now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def _until_answers(url: str, token: str = "") -> None:
    deadline = time.monotonic() + STARTED_S
    with httpx.Client(verify=False, headers={"Authorization": f"Bearer {token}"} if token else {}) as client:
        while True:
            try:
                if client.get(url).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"{url} did not become ready within {STARTED_S:g} s"
            time.sleep(0.05)
