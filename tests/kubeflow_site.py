"""A site as Kubeflow makes it: its gateway, a login, and a Central Dashboard that shows apps in a frame.

What it does was read from kubeflow/dashboard (components/centraldashboard/public: library.js, main-page.js,
components/iframe-container.js) and kubeflow/manifests (common/oauth2-proxy) and is written anew here.
MUSTER_DASHBOARD_LIBRARY names a copy of the real `library.js` (Apache-2.0), which then stands in the place of ours.

The gateway: takes away what callers say of themselves, names the user of a session or of a token that it verified, and
hands on the token of a session as if the browser had sent it (oauth2-proxy does).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx

SESSION = "oauth2_proxy_kubeflow"
ROUTES = (("/muster/api/", "/muster/api"), ("/muster/", "/muster"))
"""Of deploy/overlays/kubeflow/gateway.yaml: what a path begins with, and what is taken off it."""
STRIPPED = re.compile(r"kubeflow-.*|x-forwarded-client-cert|x-forwarded-prefix|connection|host|transfer-encoding", re.I)
HOP = frozenset({"connection", "transfer-encoding", "keep-alive"})

LIBRARY = """
window.centraldashboard = { CentralDashboardEventHandler: {
  init(callback) {
    const framed = window.location !== window.parent.location;
    callback(this, framed);
    if (!framed) return;
    window.addEventListener("message", ({ data }) => {
      if (data.type === "namespace-selected") this.onNamespaceSelected?.(data.value);
      if (data.type === "all-namespaces") this.onAllNamespacesSelected?.(data.value);
    });
    window.parent.postMessage({ type: "iframe-connected" }, window.parent.origin);
  },
} };
"""

DASHBOARD = """<!doctype html><title>Central Dashboard</title>
<select id="picker" aria-label="Namespace"></select>
<iframe id="app" title="app" style="width: 100%; height: 90vh"></iframe>
<script>
  const ALL = "All namespaces", NAMESPACES = [THEIRS];
  const picker = document.getElementById("picker"), app = document.getElementById("app");
  for (const name of [ALL, ...NAMESPACES]) picker.add(new Option(name, name));
  const here = new URL(location.href);
  picker.value = here.searchParams.get("ns") || NAMESPACES[0];
  let origin = null;
  const send = (message) => origin && app.contentWindow.postMessage(message, origin);
  const tell = () => send(picker.value === ALL
    ? { type: "all-namespaces", value: NAMESPACES } : { type: "namespace-selected", value: picker.value });
  picker.onchange = () => {
    here.searchParams.set("ns", picker.value);
    history.replaceState(null, "", here);
    tell();
  };
  window.addEventListener("message", (event) => {
    origin = event.origin;
    if (event.data.type !== "iframe-connected") return;
    send({ type: "parent-connected", value: null });
    tell();
  });
  const src = new URL(here.pathname.slice("/_".length), here.origin);
  src.search = here.search;
  src.searchParams.delete("ns");
  app.contentWindow.location.replace(src);
</script>
"""


@dataclass
class Site:
    """`url`: of the gateway. `verify`: whom a bearer token is of, if anybody's."""

    upstream: str
    namespaces: tuple[str, ...]
    principal: str
    verify: Callable[[str], str | None] = lambda _: None
    url: str = ""
    groups: dict[str, str] = field(default_factory=dict)

    def session(self, user: str) -> dict[str, str]:
        """The cookie of somebody who has logged in."""
        return {SESSION: user}

    def identified(self, headers: Mapping[str, str]) -> dict[str, str] | None:
        """What is told of the caller; None for nobody."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme == "Bearer":
            user = self.verify(token)
            return None if user is None else {"kubeflow-userid": user, "authorization": f"Bearer {token}"}
        cookie = SimpleCookie(headers.get("cookie", "")).get(SESSION)
        if cookie is None:
            return None
        groups = {"kubeflow-groups": self.groups[cookie.value]} if cookie.value in self.groups else {}
        return {"kubeflow-userid": cookie.value, "authorization": "Bearer of-the-session", **groups}


def library() -> str:
    """The dashboard's for apps: the real one where it is at hand."""
    if (real := os.environ.get("MUSTER_DASHBOARD_LIBRARY")) is None:
        return LIBRARY
    module = re.sub(r"^export ", "", Path(real).read_text(), flags=re.MULTILINE)
    return f"(() => {{ {module}\nwindow.centraldashboard = {{ CentralDashboardEventHandler }}; }})();"


@contextmanager
def site(
    upstream: str, principal: str, namespaces: tuple[str, ...], verify: Callable[[str], str | None] = lambda _: None
) -> Iterator[Site]:
    here = Site(upstream=upstream, namespaces=namespaces, principal=principal, verify=verify)
    with httpx.Client(base_url=upstream, timeout=60) as behind:

        class Answers(_Answers):
            there, client = here, behind

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        server.daemon_threads = True
        here.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield here
        finally:
            server.shutdown()
            server.server_close()
            thread.join(timeout=10)


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    there: Site
    client: httpx.Client

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/_/"):
            names = ", ".join(f'"{name}"' for name in self.there.namespaces)
            self._say(200, "text/html", DASHBOARD.replace("THEIRS", names))
        elif path == "/dashboard_lib.bundle.js":
            self._say(200, "text/javascript", library())
        elif path == "/api/dashboard-settings":
            self._say(200, "application/json", "{}")
        elif path == "/login":
            (user,) = parse_qs(urlsplit(self.path).query)["user"]
            self._say(200, "text/plain", "in", {"Set-Cookie": f"{SESSION}={user}; Path=/; HttpOnly; SameSite=Lax"})
        else:
            self._pass()

    def do_POST(self) -> None:
        self._pass()

    do_PUT = do_DELETE = do_PATCH = do_POST

    def _pass(self) -> None:
        cut = next((cut for begin, cut in ROUTES if self.path.startswith(begin)), None)
        told = self.there.identified({name.lower(): value for name, value in self.headers.items()})
        if cut is None or told is None:
            self._say(*((404, "text/plain", "nothing here") if cut is None else (401, "text/plain", "log in")))
            return
        said = {name.lower(): value for name, value in self.headers.items() if not STRIPPED.fullmatch(name)}
        peer = f'By=spiffe://x/muster;Hash=0;Subject="";URI=spiffe://{self.there.principal}'
        headers = {**said, **told, "host": self.headers["Host"], "x-forwarded-client-cert": peer}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.client.stream(
            self.command, self.path.removeprefix(cut), headers={**headers, "x-forwarded-prefix": cut}, content=body
        ) as answer:
            self._hand_on(answer)

    def _hand_on(self, answer: httpx.Response) -> None:
        """As it comes: streams have no length."""
        self.send_response(answer.status_code)
        for name, value in answer.headers.multi_items():
            if name not in HOP:
                self.send_header(name, value)
        counted = "content-length" in answer.headers or answer.status_code in (204, 304)
        if not counted:
            self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = not counted
        try:
            for chunk in answer.iter_raw():
                self.wfile.write(chunk)
                self.wfile.flush()
        except (OSError, httpx.HTTPError):
            self.close_connection = True

    def _say(self, status: int, kind: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        sent = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(sent)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        """Quiet."""
