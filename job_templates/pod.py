"""The pod of every node of a gang, as plain dicts: template in, pod template out.

What isolates a pod stands here and nowhere else, and no field of a template can take it back: nobody is root, nothing
can be written but the mounted folders, no token of Kubernetes, no neighbour's services, no mesh. It knows the
environment of docs/protocol.md; it must not know the job around the pod.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from job_templates.gang import CONTAINER, LABEL_GANG, RENDEZVOUS_PORT, TOKEN_FOLDER, TOKEN_KEY, Gang
from orchestrator.domain.pod import Pod, Toleration

Manifest = dict[str, Any]

STOP_S = 60
"""From SIGTERM to SIGKILL: torchrun gives its ranks 30 s."""
RECALL_S = 840
"""How long a serve gang may finish its request first, when one of its pods is to go."""
UNREACHABLE_S = 60
"""A node that does not answer loses its pods after this long, not after Kubernetes' five minutes."""

_HOSTNAME = "kubernetes.io/hostname"
_SCRATCH = "/tmp"  # noqa: S108 - of the pod
_ISTIO_OFF = {"sidecar.istio.io/inject": "false"}


def pod_template(gang: Gang, command: list[str]) -> Manifest:
    """metadata and spec of the pods; the same for every node."""
    pod = gang.template.pod
    return {
        "metadata": {
            "labels": {**pod.labels, **gang.labels, **_ISTIO_OFF, "istio.io/dataplane-mode": "none"},
            "annotations": {
                **pod.annotations,
                **_ISTIO_OFF,
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            },
        },
        "spec": {
            "serviceAccountName": pod.service_account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _recall_s(gang) + STOP_S,
            "securityContext": _pod_security(pod),
            **_scheduling(gang),
            "containers": [_container(gang, command)],
            "volumes": list(_volumes(gang)),
        },
    }


def _pod_security(pod: Pod) -> Manifest:
    return {
        "runAsNonRoot": True,
        "runAsUser": pod.user,
        "runAsGroup": pod.group,
        "fsGroup": pod.group,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


# --------------------------------------------------------------------------------------------------------- where


def _scheduling(gang: Gang) -> Manifest:
    pod = gang.template.pod
    asked = {
        "priorityClassName": pod.priority_class,
        "schedulerName": pod.scheduler,
        "nodeSelector": pod.node_selector,
        "imagePullSecrets": [{"name": name} for name in pod.image_pull_secrets],
        "affinity": _affinity(gang),
    }
    return {name: value for name, value in asked.items() if value} | {"tolerations": _tolerations(pod)}


def _affinity(gang: Gang) -> Manifest:
    pod, affinity = gang.template.pod, {}
    apart = _same_gang(gang, _HOSTNAME)
    match pod.spread:
        case "hosts":
            affinity["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
        case "prefer_hosts":
            wish = {"weight": 100, "podAffinityTerm": apart}
            affinity["podAntiAffinity"] = {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}
    if pod.together:
        near = _same_gang(gang, pod.together)
        affinity["podAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [near]}
    return affinity


def _same_gang(gang: Gang, topology: str) -> Manifest:
    return {"topologyKey": topology, "labelSelector": {"matchLabels": {LABEL_GANG: gang.id}}}


def _tolerations(pod: Pod) -> list[Manifest]:
    """Those of the template, then the bound on how long a node may be away."""
    bounds = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": UNREACHABLE_S}
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    ]
    own = {one["key"] for one in bounds}
    return [_toleration(one) for one in pod.tolerations if one.key not in own] + bounds


def _toleration(one: Toleration) -> Manifest:
    asked = {
        "key": one.key,
        "operator": one.operator,
        "value": one.value or None,
        "effect": one.effect,
        "tolerationSeconds": one.toleration_seconds,
    }
    return {name: value for name, value in asked.items() if value is not None}


# ---------------------------------------------------------------------------------------------------------- what


def _container(gang: Gang, command: list[str]) -> Manifest:
    return {
        "name": CONTAINER,
        "image": gang.template.image,
        "command": command,
        **({"workingDir": gang.template.workdir} if gang.template.workdir else {}),
        "ports": [{"name": "rdzv", "containerPort": RENDEZVOUS_PORT}],
        "env": list(_environment(gang)),
        "resources": _resources(gang.template.pod),
        **({"lifecycle": {"preStop": {"exec": {"command": _recall(gang)}}}} if gang.serves else {}),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": list(_mounts(gang.template.pod)),
    }


def _recall(gang: Gang) -> list[str]:
    """Before SIGTERM. Ends at once where nothing is under way, the service is away or it is what ended the gang."""
    return ["python", "-m", "inference.recall", f"--seconds={_recall_s(gang)}"]


def _recall_s(gang: Gang) -> int:
    """A batch gang's requests go back to the queue instead: nobody waits for them by the minute."""
    return min(math.ceil(gang.template.limits.timeout_s), RECALL_S) if gang.serves else 0


def _environment(gang: Gang) -> Iterator[Manifest]:
    """Defaults, then the template's wishes, then what the protocol fixes: docs/protocol.md. No secret is among them."""
    fixed = {
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # else a gang that lost a node never becomes whole again
        "MUSTER_API_URLS": ",".join(gang.api_urls),
        "MUSTER_GANG": gang.id,
        "MUSTER_TOKEN_FILE": f"{TOKEN_FOLDER}/{TOKEN_KEY}",
        "MUSTER_SCRATCH": f"{_SCRATCH}/muster",
        "MUSTER_JOIN_S": str(gang.template.preflight.timeout_s),
    }
    if gang.template.replicas > 1:
        fixed["MUSTER_REPLICAS"] = str(gang.template.replicas)
    if not gang.template.pod.resources.gpus:
        fixed["NVIDIA_VISIBLE_DEVICES"] = "void"  # images of CUDA ask for all, and some runtimes give them
    for name, value in {**_defaults(gang), **gang.template.env, **fixed}.items():
        yield {"name": name, "value": value.replace("$(", "$$(")}  # the kubelet would put other variables there
    for name, held in gang.template.pod.secret_env.items():
        yield {"name": name, "valueFrom": {"secretKeyRef": {"name": held.secret, "key": held.key}}}
    yield {"name": "MUSTER_NODE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    yield {"name": "PET_LOCAL_ADDR", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def _defaults(gang: Gang) -> dict[str, str]:
    return {
        "HOME": _SCRATCH,  # the user has none, and the image cannot be written
        "USER": "muster",  # nor a name, for which torch's caches ask
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(_threads(gang)),
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "NCCL_SOCKET_IFNAME": "eth0",
        "NCCL_DEBUG": "WARN",
        "NCCL_NVLS_ENABLE": "0",  # multicast between GPUs needs what a restricted pod may not have
    }


def _threads(gang: Gang) -> int:
    """Of one rank: its share of the CPU that the pod asks for."""
    cpu = gang.template.pod.resources.cpu
    if cpu is None:
        return 1
    cores = int(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)
    return max(1, math.floor(cores / gang.template.ranks_per_node))


def _resources(pod: Pod) -> Manifest:
    asked = pod.resources
    held = {"memory": asked.memory, asked.gpu_resource: str(asked.gpus) if asked.gpus else None}
    limits = {name: value for name, value in held.items() if value is not None}
    requests = {**({"cpu": asked.cpu} if asked.cpu else {}), **limits}
    return {name: value for name, value in (("requests", requests), ("limits", limits)) if value}


def _mounts(pod: Pod) -> Iterator[Manifest]:
    yield {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 - of the pod
    yield {"name": "scratch", "mountPath": _SCRATCH}
    yield {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True}
    for number, volume in enumerate(pod.volumes):
        yield {
            "name": f"volume-{number}",
            "mountPath": volume.mount_path,
            "readOnly": volume.read_only,
            **({"subPath": volume.sub_path} if volume.sub_path else {}),
        }


def _volumes(gang: Gang) -> Iterator[Manifest]:
    pod = gang.template.pod
    yield {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": pod.resources.shm}}
    yield {"name": "scratch", "emptyDir": {"sizeLimit": pod.resources.scratch}}
    yield {"name": "token", "secret": {"secretName": gang.token_secret, "defaultMode": 0o440}}
    for number, volume in enumerate(pod.volumes):
        claim = {"claimName": volume.pvc, "readOnly": volume.read_only}
        yield {"name": f"volume-{number}", "persistentVolumeClaim": claim}
