"""Spans of an attempt as rank 0 saw it: the handler, and each phase that it named. Only where opentelemetry is there
and the standard variables name an OTLP endpoint; imported only then.

Drawn from moments noted on the way, once the attempt is over, and sent on a thread: no step waits for it.
"""

import itertools
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from inference.attempt import Attempt

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

NAME = "muster-gang"
PATIENCE_S = 3.0
_NANO = 1_000_000_000


class Spans:
    """`of`: what every span of this gang says."""

    def __init__(self, of: Mapping[str, Any]) -> None:
        """Raises ImportError where opentelemetry is not installed."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        named = Resource.create()
        if str(named.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            named = named.merge(Resource({SERVICE_NAME: NAME}))
        self._of = dict(of)
        self._resource = named
        self._scope = InstrumentationScope(NAME)
        self._processor = BatchSpanProcessor(OTLPSpanExporter())

    @classmethod
    def if_asked(cls, of: Mapping[str, Any], variables: Mapping[str, str] = os.environ) -> Self | None:
        """None where nobody asks for spans, or nothing is there to make them."""
        if not _asked(variables):
            return None
        try:
            return cls(of)
        except ImportError as error:
            print(f"muster: no spans: {error}", flush=True)  # noqa: T201 (the rank's log)
            return None

    def tell(self, attempt: Attempt, outcome: str) -> None:
        """The attempt is over; nothing of one that no trace knows, or whose trace is not kept."""
        try:
            parent = _parent(attempt.work.traceparent, attempt.work.tracestate)
            if parent is not None and parent.trace_flags.sampled:
                for span in self._drawn(attempt, outcome, parent):
                    self._processor.on_end(span)
        except Exception as error:  # opentelemetry is not ours, and no request is to fail for it
            print(f"muster: no spans of {attempt.work.request}: {error!r}", flush=True)  # noqa: T201 (the rank's log)

    def close(self) -> None:
        """Send what is left, if somebody listens."""
        last = threading.Thread(target=self._processor.shutdown, name="muster-spans-end", daemon=True)
        last.start()
        last.join(PATIENCE_S)

    def _drawn(self, attempt: Attempt, outcome: str, parent: "SpanContext") -> Iterator["ReadableSpan"]:
        from opentelemetry.trace import Status, StatusCode

        end = time.monotonic()
        moments = [*attempt.progress.entered, ("", end)]
        about = {**self._of, "muster.request.id": attempt.work.request, "muster.attempt": attempt.work.number}
        status = Status(StatusCode.ERROR, outcome) if outcome == "failed" else Status()
        whole = self._span("handler", parent, attempt.began, end, {**about, "muster.outcome": outcome}, status)
        yield whole
        for (phase, begin), (_, until) in itertools.pairwise(moments):
            yield self._span(phase, whole.context, begin, until, about, Status())

    def _span(
        self, name: str, parent: "SpanContext", begin: float, end: float, said: Mapping[str, Any], status: Any
    ) -> "ReadableSpan":
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext

        past = time.time() - time.monotonic()
        flags, state = parent.trace_flags, parent.trace_state
        return ReadableSpan(
            name=name,
            context=SpanContext(parent.trace_id, int(secrets.token_hex(8), 16), False, flags, state),
            parent=parent,
            resource=self._resource,
            attributes=dict(said),
            status=status,
            start_time=int((past + begin) * _NANO),
            end_time=int((past + end) * _NANO),
            instrumentation_scope=self._scope,
        )


def _asked(variables: Mapping[str, str]) -> bool:
    named = variables.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or variables.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    off = variables.get("OTEL_SDK_DISABLED", "").lower() == "true" or variables.get("OTEL_TRACES_EXPORTER") == "none"
    return bool(named) and not off


def _parent(traceparent: str | None, tracestate: str | None) -> "SpanContext | None":
    """The span of the attempt; the service checked what it hands on."""
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    if not traceparent:
        return None
    _, trace, span, flags = traceparent.split("-")[:4]
    state = TraceState.from_header([tracestate]) if tracestate else None
    return SpanContext(int(trace, 16), int(span, 16), True, TraceFlags(int(flags, 16)), state)
