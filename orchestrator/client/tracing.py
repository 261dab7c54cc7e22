"""Where in a trace the caller is, as headers (W3C Trace Context): what OpenTelemetry knows in this process, else what
the environment says. Imports nothing of OpenTelemetry.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

VARIABLES = {"traceparent": "TRACEPARENT", "tracestate": "TRACESTATE"}


def from_env(environ: Mapping[str, str]) -> dict[str, str]:
    """Of a shell or a step that is part of a trace; nothing if TRACEPARENT is not set or no header can hold it."""
    said = {name: environ.get(variable, "").strip() for name, variable in VARIABLES.items()}
    good = {name: value for name, value in said.items() if value and value.isascii() and value.isprintable()}
    return good if "traceparent" in good else {}


def current() -> dict[str, str]:
    """The span that is open here; nothing unless the program itself uses OpenTelemetry."""
    propagate = sys.modules.get("opentelemetry.propagate")
    if propagate is None:
        return {}
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {name: value for name, value in carrier.items() if name in VARIABLES}
