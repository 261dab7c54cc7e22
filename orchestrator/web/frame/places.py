"""Where a gang runs, from the name that its backend goes by. Pure."""

from __future__ import annotations

from orchestrator.backends.kubeflow_names import place_of


def namespace(backend: str) -> str | None:
    """Of the PyTorchJobs of this backend; None where gangs are no pods."""
    place = place_of(backend)
    return place[0] if place else None
