"""Spans of requests and batches that are over, drawn from what was recorded, sent by OTLP; the only room that sees
opentelemetry, and only when it is switched on.

It is told IDs and reads the rest. No request waits for it, and what it cannot send is dropped (docs/traces.md).
"""

from orchestrator.traces.exporting import Sink, exporter
from orchestrator.traces.telling import Traces

__all__ = ["Sink", "Traces", "exporter"]
