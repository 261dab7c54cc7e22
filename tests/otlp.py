"""A receiver of traces for tests: a real HTTP server that takes OTLP as opentelemetry's own protobufs describe it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, kw_only=True)
class Span:
    """One span as it came."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    begin: int
    end: int
    kind: int
    failed: bool
    state: str
    said: dict[str, object]
    links: tuple[tuple[str, str], ...]
    events: tuple[tuple[str, int], ...]


@dataclass
class Collector:
    url: str
    spans: list[Span] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        """What sends spans here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def of(self, trace: str) -> dict[str, Span]:
        """The spans of a trace by name; a name that stands twice is a defect of the test."""
        found = [span for span in list(self.spans) if span.trace == trace]
        assert len({span.name for span in found}) == len(found), [span.name for span in found]
        return {span.name: span for span in found}

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_read(named["service.name"], one) for one in scope.spans]


def _read(service: str, one: Any) -> Span:
    return Span(
        service=service,
        name=one.name,
        trace=one.trace_id.hex(),
        id=one.span_id.hex(),
        parent=one.parent_span_id.hex(),
        begin=one.start_time_unix_nano,
        end=one.end_time_unix_nano,
        kind=one.kind,
        failed=one.status.code == 2,
        state=one.trace_state,
        said={a.key: getattr(a.value, a.value.WhichOneof("value")) for a in one.attributes},
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in one.links),
        events=tuple((event.name, event.time_unix_nano) for event in one.events),
    )


@contextmanager
def collector() -> Iterator[Collector]:
    server = _Server(("127.0.0.1", 0), _Door)
    server.collector = Collector(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    collector: Collector


class _Door(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.path == "/v1/traces"
        self.server.collector.take(body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on the test's output."""
