"""Echo gangs in the shapes that the tests need."""

from __future__ import annotations

from typing import Any

HANDLER = "inference.samples.echo:Echo"
QUAD = "quad"
"""Of the session's service: one warm gang of four ranks, whose collectives time out after 2 s."""
PATIENT = "patient"
"""Of the session's service: two ranks whose collectives time out after 5 s, which idle until somebody asks."""


def echo(
    name: str,
    *,
    nodes: int = 1,
    ranks: int = 4,
    min: int = 0,
    max: int = 1,
    idle_timeout_s: float = 600,
    args: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A template of `ranks` ranks on each node; requests may ask for what goes wrong (`hooks`)."""
    return {
        "name": name,
        "handler": HANDLER,
        "nodes": nodes,
        "ranks_per_node": ranks,
        "args": {"hooks": True, **(args or {})},
        "input": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "maxLength": 1000},
                "sleep_s": {"type": "number", "minimum": 0},
                "steps": {"type": "integer", "minimum": 1},
            },
        },
        "pool": {"min": min, "max": max, "idle_timeout_s": idle_timeout_s},
        "limits": limits or {},
        **more,
    }
