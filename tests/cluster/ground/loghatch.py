"""A kubelet's HTTPS log endpoint, to which the API server sends `pods/log`."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

Read = Callable[[str, str, bool], "bytes | None"]
"""namespace, pod, previous container -> everything it wrote; None: no such pod here"""


class LogHatch:
    def __init__(self, folder: Path, read: Read) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _asking(read))
        self._server.daemon_threads = True
        self._server.socket = _certified(folder).wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="kubelet-logs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)


def _asking(read: Read) -> type[BaseHTTPRequestHandler]:
    class Asked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            parts, query = url.path.strip("/").split("/"), parse_qs(url.query)
            found = read(parts[1], parts[2], query.get("previous") == ["true"]) if len(parts) == 4 else None
            if found is None:
                self.send_error(404)
                return
            if "tailLines" in query:
                found = b"".join(found.splitlines(keepends=True)[-int(query["tailLines"][0]) :])
            if "limitBytes" in query:  # of what was chosen, the first
                found = found[: int(query["limitBytes"][0])]
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(found)

        def log_message(self, *_: object) -> None:
            pass

    return Asked


def _certified(folder: Path) -> ssl.SSLContext:
    key, certificate = folder / "kubelet.key", folder / "kubelet.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=kubelet"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
