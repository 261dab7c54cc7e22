"""The Kubernetes objects of one gang, as plain dicts: a PyTorchJob, the Secret with its token, its disruption budget.

Pure: the same gang gives the same objects. What the operator makes of each field was seen on the real one; the reasons
are in docs/decisions/0011-manifests.md. It must not talk to a cluster.
"""

from __future__ import annotations

from typing import Any

from job_templates.gang import (
    ANNOTATION_SPEC_HASH,
    ANNOTATION_URL,
    CONTAINER,
    LABEL_GANG,
    LABEL_INSTALLATION,
    LABEL_JOB_NAME,
    LABEL_MANAGED_BY,
    LABEL_MODE,
    LABEL_NAME,
    LABEL_REPLICA_INDEX,
    LABEL_TEMPLATE,
    MANAGED_BY,
    NAME,
    RENDEZVOUS_PORT,
    TOKEN_KEY,
    Gang,
)
from job_templates.pod import Manifest, pod_template

__all__ = [
    "ANNOTATION_SPEC_HASH",
    "ANNOTATION_URL",
    "API_VERSION",
    "CONTAINER",
    "KIND",
    "LABEL_GANG",
    "LABEL_INSTALLATION",
    "LABEL_JOB_NAME",
    "LABEL_MANAGED_BY",
    "LABEL_MODE",
    "LABEL_NAME",
    "LABEL_REPLICA_INDEX",
    "LABEL_TEMPLATE",
    "MANAGED_BY",
    "NAME",
    "Gang",
    "disruption_budget",
    "job",
    "token_secret",
]

API_VERSION = "kubeflow.org/v1"
KIND = "PyTorchJob"

_RESTARTS = 1000
"""Of a serve gang's ranks in place: a lifetime total per agent that torchrun never refills."""
_RENDEZVOUS = {"join_timeout": "900", "last_call_timeout": "5", "close_timeout": "30", "read_timeout": "120"}
"""Seconds. Pods that wait in CrashLoopBackOff come up to five minutes apart."""
_FINISHED_S = {"serve": 86400, "batch": 3600}
"""How long a finished job is kept if nobody deletes it. The orchestrator does, long before."""


def job(gang: Gang) -> dict[str, Any]:
    """The PyTorchJob. Raises nothing: what cannot be a gang is refused by `Gang`."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": gang.name,
            "namespace": gang.namespace,
            "labels": gang.labels | _kueue(gang),
            "annotations": _annotations(gang),
        },
        "spec": {
            "nprocPerNode": str(gang.template.ranks_per_node),
            # No backoffLimit (it counts restarts over a pod's life), no activeDeadlineSeconds (not enforced).
            "runPolicy": {"cleanPodPolicy": "Running", "ttlSecondsAfterFinished": _FINISHED_S[gang.mode]},
            **({"elasticPolicy": _elastic(gang)} if gang.serves else {}),
            "pytorchReplicaSpecs": {
                "Worker": {
                    "replicas": gang.template.nodes,
                    "restartPolicy": "Always" if gang.serves else "Never",
                    "template": pod_template(gang, _command(gang)),
                }
            },
        },
    }


def token_secret(gang: Gang, token: str, owner_uid: str) -> dict[str, Any]:
    """The gang token, which pods wait for. `owner_uid` is the job's: the Secret goes with it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _owned(gang, gang.token_secret, owner_uid),
        "type": "Opaque",
        "immutable": True,
        "stringData": {TOKEN_KEY: token},
    }


def disruption_budget(gang: Gang, owner_uid: str) -> dict[str, Any] | None:
    """The whole serve gang or nothing; a batch gang is tried again elsewhere, and holds no node up."""
    if not gang.serves:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _owned(gang, gang.name, owner_uid),
        "spec": {
            "minAvailable": gang.template.nodes,
            "selector": {"matchLabels": {LABEL_JOB_NAME: gang.name}},
        },
    }


def _annotations(gang: Gang) -> dict[str, str]:
    link = {ANNOTATION_URL: gang.lead} if gang.lead else {}
    return {ANNOTATION_SPEC_HASH: f"sha256:{gang.template.digest.hex()}", **link}


def _kueue(gang: Gang) -> dict[str, str]:
    pod = gang.template.pod
    asked = {"kueue.x-k8s.io/queue-name": pod.queue, "kueue.x-k8s.io/priority-class": pod.queue_priority}
    return {name: value for name, value in asked.items() if value is not None}


def _elastic(gang: Gang) -> Manifest:
    """Of a fixed size. It makes the operator pass the rendezvous on to pods that it makes anew."""
    return {
        "rdzvBackend": "c10d",
        "rdzvId": gang.name,
        "rdzvPort": RENDEZVOUS_PORT,
        "minReplicas": gang.template.nodes,
        "maxReplicas": gang.template.nodes,
        "maxRestarts": _RESTARTS,
        "rdzvConf": [{"key": key, "value": value} for key, value in _RENDEZVOUS.items()],
    }


def _command(gang: Gang) -> list[str]:
    """Our torchrun agent, the same on every node. It reads what the operator injects for serve gangs (PET_*); without
    elasticPolicy, which would end a batch job with its first worker, the rendezvous is ours to say."""
    agent = ["python", "-m", "inference.agent"]
    ranks = ["-m", "inference"]
    if gang.serves:
        return [*agent, *ranks]
    return [
        *agent,
        f"--nnodes={gang.template.nodes}",
        f"--nproc-per-node={gang.template.ranks_per_node}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={gang.name}-worker-0:{RENDEZVOUS_PORT}",
        f"--rdzv-id={gang.name}",
        "--rdzv-conf=" + ",".join(f"{key}={value}" for key, value in _RENDEZVOUS.items()),
        "--max-restarts=0",
        *ranks,
    ]


def _owned(gang: Gang, name: str, owner_uid: str) -> Manifest:
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": gang.name,
        "uid": owner_uid,
        "controller": False,
        "blockOwnerDeletion": False,  # true would need a right on the job's finalizers
    }
    return {"name": name, "namespace": gang.namespace, "labels": gang.labels, "ownerReferences": [owner]}
