"""Spans to opentelemetry's own, and away by OTLP over HTTP. The only module that imports it, and only once asked.

Where to, with which headers and how patiently: the standard variables OTEL_EXPORTER_OTLP_*, OTEL_BSP_*.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.errors import Invalid
from orchestrator.traces.drawing import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

REMEDY = "traces need opentelemetry: pip install 'muster-orchestrator[otel]', or MUSTER_TRACES=false"
PATIENCE_S = 5.0
NANO = 1_000_000_000


class Sink(Protocol):
    """Where spans go."""

    def send(self, spans: Iterable[Span]) -> None:
        """At once, without waiting for anybody."""

    def close(self) -> None:
        """Send what is left, for a few seconds at the most."""


def exporter() -> Sink:
    """To the endpoint that the environment names. Raises Invalid where opentelemetry is not installed."""
    try:
        return _Exporter()
    except ImportError:
        raise Invalid(REMEDY, code="no_opentelemetry") from None


class _Exporter:
    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        named = Resource.create()
        if str(named.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            named = named.merge(Resource({SERVICE_NAME: "muster"}))
        self._resource = named
        self._scope = InstrumentationScope("muster")
        self._processor = BatchSpanProcessor(OTLPSpanExporter())

    def send(self, spans: Iterable[Span]) -> None:
        for span in spans:
            self._processor.on_end(self._read(span))

    def close(self) -> None:
        last = threading.Thread(target=self._processor.shutdown, name="muster-traces-end", daemon=True)
        last.start()  # it waits for a receiver that is away, and is let go then
        last.join(PATIENCE_S)

    def _read(self, span: Span) -> ReadableSpan:
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.trace import Link, SpanKind, Status, StatusCode

        return ReadableSpan(
            name=span.name,
            context=_context(span.at.trace, span.at.span, span),
            parent=_context(span.at.trace, span.parent, span) if span.parent else None,
            resource=self._resource,
            attributes=dict(span.attributes),
            links=[Link(_context(other.trace, other.span, None)) for other in span.links],
            events=[Event(name, timestamp=int(at_s * NANO)) for name, at_s in span.moments],
            kind=SpanKind.SERVER if span.entry else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=int(span.begin_s * NANO),
            end_time=int(max(span.begin_s, span.end_s) * NANO),
            instrumentation_scope=self._scope,
        )


def _context(trace: str, span: str, of: Span | None) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    state: Any = TraceState.from_header([of.at.state]) if of is not None and of.at.state else None
    flags = TraceFlags(of.at.flags if of is not None else TraceFlags.SAMPLED)
    return SpanContext(int(trace, 16), int(span, 16), is_remote=of is None, trace_flags=flags, trace_state=state)
