"""An admission webhook for PyTorchJobs in one namespace, as the training operator has one: it denies, or it is away."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .api import Api

_KIND = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


@contextmanager
def webhook(api: Api, folder: Path, namespace: str, *, away: bool = False) -> Iterator[None]:
    """Until the block ends every new PyTorchJob of the namespace is denied; with `away`, nobody answers."""
    key, certificate = folder / "webhook.key", folder / "webhook.crt"
    asked = ["-subj", "/CN=webhook", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *asked]
    subprocess.run(command, check=True, capture_output=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Denying)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    port = server.server_address[1]
    api.patch("namespaces", "", namespace, {"metadata": {"labels": {"webhook": "on"}}})
    api.call("POST", _KIND, _configuration(namespace, port, certificate.read_bytes()))
    if away:
        server.server_close()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    if not away:
        thread.start()
    try:
        yield
    finally:
        api.call("DELETE", f"{_KIND}/{namespace}")
        if not away:
            server.shutdown()
            server.server_close()


def _configuration(namespace: str, port: int, certificate: bytes) -> dict[str, object]:
    rule = {
        "apiGroups": ["kubeflow.org"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pytorchjobs"],
    }
    client = {"url": f"https://127.0.0.1:{port}/", "caBundle": base64.b64encode(certificate).decode()}
    hook = {
        "name": "validator.pytorchjob.training-operator.kubeflow.org",
        "clientConfig": client,
        "rules": [rule],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 2,
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {"matchLabels": {"webhook": "on"}},
    }
    return {"metadata": {"name": namespace}, "webhooks": [hook]}


class _Denying(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = {"message": "spec.pytorchReplicaSpecs[Worker]: Invalid value: a test says so"}
        review["response"] = {"uid": review["request"]["uid"], "allowed": False, "status": status}
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
