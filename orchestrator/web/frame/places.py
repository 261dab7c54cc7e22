"""Where a gang runs, from the name that its backend goes by. Pure."""

from __future__ import annotations


def namespace(backend: str) -> str | None:
    """Of the PyTorchJobs of this backend; None where gangs are no pods."""
    kind, _, place = backend.partition(":")
    return place.partition("/")[0] if kind == "kubeflow" and place else None
