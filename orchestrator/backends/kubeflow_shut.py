"""Whether a namespace lets us in at all.

One that is gone looks to us like one that was never opened: the RoleBinding that let us in went with it, and nothing
tells the two apart for an account without rights in the whole cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.backends.kubeflow_names import path
from orchestrator.backends.kubeflow_wall import Kube, Refused
from orchestrator.errors import BackendError


@contextmanager
def let_in(kube: Kube, namespace: str) -> Iterator[None]:
    """Turns the refusal of everything into BackendError "namespace_gone"; that of one thing stays what it is."""
    try:
        yield
    except Refused as refused:
        if refused.code == "namespace_gone":
            raise _gone(namespace, f"is gone or going: {refused.message}") from refused
        if refused.code == "forbidden" and _is_shut(kube, namespace, refused):
            why = f"does not let Muster in: it was deleted, or deploy/gangs is not applied there ({refused.message})"
            raise _gone(namespace, why) from refused
        raise


def _gone(namespace: str, why: str) -> BackendError:
    return BackendError(f"The namespace {namespace} {why}", code="namespace_gone")


def _is_shut(kube: Kube, namespace: str, refused: Refused) -> bool:
    """Not even a look is allowed."""
    if 'cannot list resource "pytorchjobs"' in refused.message:
        return True
    try:
        kube.call("GET", path("pytorchjobs", namespace), query={"limit": 1})
    except Refused as again:
        return again.code == "forbidden"
    return False
