"""What the objects of a gang are called on Kubernetes. job_templates writes these names, this room reads them;
tests/unit/test_kubeflow_names.py holds the two together."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

MANAGED_BY, INSTALLATION = "app.kubernetes.io/managed-by", "muster/installation"
GANG, MODE = "muster/gang-id", "muster/mode"
JOB_NAME, REPLICA_INDEX = "training.kubeflow.org/job-name", "training.kubeflow.org/replica-index"
"""Set by the operator on the pods of a job."""
CONTAINER = "pytorch"

JOBS = "/apis/kubeflow.org/v1"


def labels_of(thing: Json) -> dict[str, str]:
    found: dict[str, str] = thing["metadata"].get("labels") or {}
    return found


def uid_of(thing: Json) -> str:
    return str(thing["metadata"]["uid"])


def name_of(thing: Json) -> str:
    return str(thing["metadata"]["name"])


def leaving(thing: Json) -> bool:
    """Somebody asked Kubernetes to delete it."""
    return bool(thing["metadata"].get("deletionTimestamp"))


def job_of(pod: Json) -> str:
    return labels_of(pod).get(JOB_NAME, "")


def node_of(pod: Json) -> int:
    """Which node of its gang the pod is, from 0."""
    index = labels_of(pod).get(REPLICA_INDEX, "0")
    return int(index) if index.isdigit() else 0


def nodes_of(job: Json) -> int:
    """How many nodes the gang has."""
    worker = job.get("spec", {}).get("pytorchReplicaSpecs", {}).get("Worker", {})
    return int(worker.get("replicas", 1))


def place_name(namespace: str, installation: str) -> str:
    """The name of a place, which the row of each of its gangs carries."""
    return f"kubeflow:{namespace}/{installation}"


def place_of(name: str) -> tuple[str, str] | None:
    """Namespace and installation of a place that is one of ours."""
    kind, _, place = name.partition(":")
    namespace, _, installation = place.partition("/")
    return (namespace, installation) if kind == "kubeflow" and namespace and installation else None


def path(kind: str, namespace: str, name: str = "") -> str:
    """Where an object, or without a name all of its kind, lies."""
    group = {"pytorchjobs": JOBS}.get(kind, "/api/v1")
    return f"{group}/namespaces/{namespace}/{kind}" + (f"/{name}" if name else "")
