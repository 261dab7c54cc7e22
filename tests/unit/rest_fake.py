"""A small service that answers as docs/rest.md says, from memory. For the tests of the client and the CLI.

`FakeService` answers an httpx.Request: give it to httpx.MockTransport, or let `serving` put it behind a socket.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import httpx

TOKEN = "mst_test"
CREATED_AT = "2026-01-01T00:00:00.123456Z"
GANG = "gng_01j0000000000000000000000g"
GIF = b"GIF89a" + bytes(range(256)) * 40
DIGITS = {
    "name": "digits",
    "version": 1,
    "handler": "inference.samples.digits.handler:Digits",
    "nodes": 1,
    "ranks_per_node": 4,
    "input": {
        "type": "object",
        "properties": {"digit": {"type": "integer"}, "text": {"type": "string"}, "sizes": {"type": "array"}},
    },
}
QUEUED: dict[str, Any] = {"status": "queued", "waiting": "position 2 of 5"}
COLD: dict[str, Any] = {
    "status": "queued",
    "phase": "loading",
    "placement": {"kind": "cold", "reason": "no gang", "gang": GANG, "ranks": 4},
}
RUNNING: dict[str, Any] = {
    "status": "running",
    "phase": "denoise",
    "attempt": 1,
    "progress": {"phase": "denoise", "current": 17, "total": 30, "fraction": 0.567, "eta_s": 3.0},
    "placement": {"kind": "warm", "reason": "gang was idle", "gang": GANG, "ranks": 4},
}
SUCCEEDED: dict[str, Any] = {
    "status": "succeeded",
    "is_terminal": True,
    "result": {"digit": 3},
    "metrics": {"queue_s": 0.1, "cold_start_s": 0.0, "run_s": 1.2},
    "placement": RUNNING["placement"],
}
FAILED: dict[str, Any] = {
    "status": "failed",
    "is_terminal": True,
    "error": {
        "code": "handler_error",
        "message": "ValueError: no such digit",
        "retryable": False,
        "rank": 2,
        "node": "n7",
        "phase": "denoise",
        "attempt": 1,
    },
}
LOST: dict[str, Any] = {
    "status": "failed",
    "is_terminal": True,
    "error": {"code": "gang_lost", "message": "node n3 went away", "retryable": True, "rank": 0, "node": "n3"},
}
CANCELED: dict[str, Any] = {"status": "canceled", "is_terminal": True}
EXPIRED: dict[str, Any] = {"status": "expired", "is_terminal": True}


EXPLANATION: dict[str, Any] = {
    "object": "explanation",
    "kind": "request",
    "status": "failed",
    "summary": "it failed",
    "findings": [{"code": "cause", "sentence": "it failed with \x1b]0;owned\x07 on rank 2", "figures": {"rank": 2}}],
    "next": [{"sentence": "read its log", "command": "muster logs --rank 2"}, {"sentence": "rest", "command": None}],
    "cause": {"code": "handler_error", "whose": "user", "rank": 2, "traceback": "Traceback", "log": "\x1b[2Jlast"},
}


EVENT: dict[str, Any] = {"seq": 1, "at": "2026-01-01T00:00:00Z", "move": "record", "data": {}}


class FakeService:
    """`script` is what each look at a new request finds; the last entry stays."""

    def __init__(self, script: list[dict[str, Any]] | None = None) -> None:
        self.script = script or [SUCCEEDED]
        self.seen: list[httpx.Request] = []
        self.requests: dict[str, dict[str, Any]] = {}
        self.looks: dict[str, int] = {}
        self.keys: dict[str, str] = {}
        self.templates: dict[str, dict[str, Any]] = {"digits": dict(DIGITS)}
        self.outputs: dict[str, bytes] = {"digit.gif": GIF}
        self.promised: dict[str, dict[str, Any]] = {}  # name -> what the listing says instead of the truth
        self.log: Callable[[str], str] = lambda rank: f"[r{rank}] hello\n" if rank != "0" else "hello\n"
        self.ready = True
        self.after_cancel = [CANCELED]
        self.answers: list[httpx.Response | Exception] = []  # given first, whatever is asked
        self._number = itertools.count(1)

    def add(self, *script: dict[str, Any], **fields: Any) -> str:
        request_id = f"req_{next(self._number):026d}"
        self.requests[request_id] = {"script": list(script) or self.script, "fields": fields}
        return request_id

    def bodies(self, method: str, path: str) -> list[Any]:
        return [json.loads(one.content) for one in self.seen if (one.method, one.url.path) == (method, path)]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        path = [unquote(part) for part in request.url.raw_path.decode().split("?")[0].strip("/").split("/")]
        if path == ["readyz"]:
            return httpx.Response(200 if self.ready else 503, json={"database": "ok" if self.ready else "down"})
        if path == ["openapi.json"]:
            return httpx.Response(200, json={"info": {"version": "0.1.0"}})
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return problem(401, "unauthorized", "unknown token")
        return self._answer(request, path[1:])

    def _answer(self, request: httpx.Request, path: list[str]) -> httpx.Response:
        match request.method, path:
            case "POST", ["requests"]:
                return self._submit(request)
            case "POST", ["requests:validate"]:
                return self._validate(request)
            case "GET", ["requests"]:
                return self._list(request)
            case _, ["requests", request_id, *_] if request_id not in self.requests:
                return problem(404, "not_found", f"no request {request_id}")
            case "GET", ["requests", request_id]:
                return httpx.Response(200, json=self.look(request_id))
            case "POST", ["requests", request_id, "retry"]:
                again = self.add(retry_of=request_id)
                return httpx.Response(202, json=self.document(again, QUEUED))
            case "DELETE", ["requests", request_id]:
                if not self.look(request_id)["is_terminal"]:
                    return problem(409, "not_terminal", f"request {request_id} has not ended")
                del self.requests[request_id]
                return httpx.Response(204)
            case "POST", ["requests", request_id, "cancel"]:
                self.requests[request_id]["script"], self.looks[request_id] = self.after_cancel, -1
                return httpx.Response(200, json=self.look(request_id))
            case "GET", ["requests", request_id, "explain"]:
                return httpx.Response(200, json={**EXPLANATION, "of": request_id})
            case "GET", ["requests", request_id, "logs" | "events" as kind] if _streamed(request):
                return self._stream(request, request_id, kind)
            case "GET", ["requests", _, "logs"]:
                return httpx.Response(200, text=self.log(request.url.params["rank"]))
            case "GET", ["requests", _, "events"]:
                return httpx.Response(200, json={"data": [EVENT]})
            case "GET", ["requests", _, "outputs"]:
                return httpx.Response(200, json={"data": [self._listed(name) for name in self.outputs]})
            case "GET", ["requests", _, "outputs", name]:
                return httpx.Response(200, content=self.outputs[name])
        return self._answer_about_others(request, path)

    def _answer_about_others(self, request: httpx.Request, path: list[str]) -> httpx.Response:
        pool = {"name": "digits", "template": "digits", "min": 0, "max": 1, "idle_timeout_s": 600, "gangs": {"idle": 1}}
        ranks = [{"rank": 0, "node": "n1", "pid": 7, "ready": True}]
        gang = {"id": GANG, "state": "idle", "template": "digits", "template_version": 1, "world": 1, "ranks": ranks}
        gang["mode"] = "serve"
        token = {"id": "tok_1", "name": "ci", "scopes": ["read"], "created_at": "2026-01-01T00:00:00Z"}
        match request.method, path:
            case "PUT", ["templates", name]:
                self.templates[name] = {**json.loads(request.content), "version": 1}
                return httpx.Response(200, json=_template(self.templates[name]))
            case _, ["templates", name] if name not in self.templates:
                return problem(404, "not_found", f"no template {name}")
            case "GET", ["templates", name]:
                return httpx.Response(200, json=_template(self.templates[name]))
            case "DELETE", ["templates", name]:
                del self.templates[name]
                return httpx.Response(204)
            case "GET", ["templates"]:
                return httpx.Response(200, json={"data": [_template(one) for one in self.templates.values()]})
            case "GET", ["pools"]:
                return httpx.Response(200, json={"data": [pool]})
            case "GET" | "PATCH", ["pools", _]:
                return httpx.Response(200, json={**pool, **json.loads(request.content or b"{}")})
            case "POST", ["pools", _, "drain" | "recycle"]:
                return httpx.Response(200, json={"data": [{**gang, "state": "draining"}]})
            case "GET", ["gangs"]:
                return httpx.Response(200, json={"data": [gang]})
            case "GET", ["gangs", _]:
                return httpx.Response(200, json=gang)
            case "POST", ["gangs", _, "drain"]:
                return httpx.Response(200, json={**gang, "state": "draining"})
            case "GET", ["gangs", _, "logs"]:
                return httpx.Response(200, text=self.log(request.url.params["rank"]))
            case "GET", ["tokens"]:
                return httpx.Response(200, json={"data": [token]})
            case "POST", ["tokens"]:
                return httpx.Response(200, json={**token, "token": "mst_secret"})
            case "DELETE", ["tokens", _]:
                return httpx.Response(204)
        return problem(404, "not_found", "no such path")

    def _submit(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        key = request.headers["idempotency-key"]
        if body["template"] not in self.templates:
            return problem(404, "not_found", f"no template {body['template']}")
        if body["input"].get("digit", 0) == 12:
            errors = [{"pointer": "/input/digit", "code": "maximum", "message": "12 is more than 9"}]
            return problem(422, "invalid_input", "the input does not fit the template", errors)
        if key not in self.keys:
            self.keys[key] = self.add(template=body["template"], input=body["input"], labels=body.get("labels", {}))
        return httpx.Response(202, json=self.document(self.keys[key], QUEUED))

    def _stream(self, request: httpx.Request, request_id: str, kind: str) -> httpx.Response:
        """What is there now, and `done` if it has ended; else the stream breaks off."""
        place = request.headers.get("last-event-id", "0")
        text = self.log(request.url.params.get("rank", "0"))
        said = {"rank": 0, "attempt": 1, "at": CREATED_AT, "text": text} if kind == "logs" else dict(EVENT)
        events = [("log" if kind == "logs" else "status", "1", said)] if place == "0" else []
        state = self.look(request_id)
        if state["is_terminal"]:
            events.append(("done", "2", {"id": request_id, "status": state["status"]}))
        content = "".join(f"event: {kind}\nid: {place}\ndata: {json.dumps(data)}\n\n" for kind, place, data in events)
        return httpx.Response(200, text=content or ":\n\n", headers={"Content-Type": "text/event-stream"})

    def _validate(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        path = {"kind": "warm", "reason": "a warm gang is idle"}
        asked = {name: body[name] for name in ("template", "mode", "input")}
        return httpx.Response(200, json={"object": "validation", **asked, "placement": path, "starts_in_s": 0.0})

    def _list(self, request: httpx.Request) -> httpx.Response:
        ids = [one for one in sorted(self.requests, reverse=True) if self._is_wanted(one, request.url.params)]
        if "cursor" in request.url.params:
            ids = [one for one in ids if one < request.url.params["cursor"]]
        limit = min(int(request.url.params["limit"]), 3)
        page = {"data": [self.look(one) for one in ids[:limit]], "has_more": len(ids) > limit}
        return httpx.Response(200, json={**page, "next_cursor": ids[:limit][-1] if len(ids) > limit else None})

    def _is_wanted(self, request_id: str, params: httpx.QueryParams) -> bool:
        fields = self.requests[request_id]["fields"]
        after = datetime.fromisoformat(params.get("created_after", "0001-01-01T00:00:00Z"))
        recorded = datetime.fromisoformat(fields.get("created_at", CREATED_AT))
        asked = {key.removeprefix("label."): value for key, value in params.items() if key.startswith("label.")}
        return recorded > after and asked.items() <= fields.get("labels", {}).items()

    def look(self, request_id: str) -> dict[str, Any]:
        script = self.requests[request_id]["script"]
        look = self.looks[request_id] = self.looks.get(request_id, -1) + 1
        return self.document(request_id, script[min(look, len(script) - 1)])

    def document(self, request_id: str, state: dict[str, Any]) -> dict[str, Any]:
        blank: dict[str, Any] = {
            "id": request_id,
            "object": "request",
            "version": self.looks.get(request_id, 0),
            "is_terminal": False,
            "template": "digits",
            "template_version": 1,
            "mode": "auto",
            "attempt": 0,
            "max_attempts": 2,
            "input": {},
            "outputs": [],
            "created_at": CREATED_AT,
            "something_new": 1,
        }
        return {**blank, **state, **self.requests[request_id]["fields"]}

    def _listed(self, name: str) -> dict[str, Any]:
        content = self.outputs[name]
        truth = {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return {**truth, **self.promised.get(name, {})}


def _streamed(request: httpx.Request) -> bool:
    return request.headers.get("accept") == "text/event-stream"


def _template(document: dict[str, Any]) -> dict[str, Any]:
    spec = {key: value for key, value in document.items() if key != "version"}
    return {"name": document["name"], "version": document["version"], "object": "template", "spec": spec}


def problem(status: int, code: str, detail: str, errors: list[dict[str, str]] | None = None) -> httpx.Response:
    body = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}
    content = json.dumps({**body, "errors": errors or []})
    return httpx.Response(status, content=content, headers={"Content-Type": "application/problem+json"})


@contextmanager
def serving(service: FakeService) -> Iterator[str]:
    """The service behind a real socket; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            url = f"http://{self.headers['host']}{self.path}"
            response = service(httpx.Request(self.command, url, headers=dict(self.headers), content=content))
            self.send_response(response.status_code)
            for name in ("content-type", "retry-after"):
                if name in response.headers:
                    self.send_header(name, response.headers[name])
            self.send_header("content-length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
