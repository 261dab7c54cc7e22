"""The `pod:` section of a template: what its author may say about the pods of a gang on Kubernetes.

An allow-list, and the only way from a template into a manifest: every field is typed here and placed by
`job_templates.pytorchjob`. There is no field for a patch, a command, a host path, a capability or a security context,
and none may be added that would take back what Muster sets. It knows what Kubernetes accepts as names and quantities;
it must not know manifests.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from orchestrator.domain.strict import Strict

_DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_SUBDOMAIN = rf"{_DNS_LABEL}(\.{_DNS_LABEL})*"
_QUALIFIED = rf"({_SUBDOMAIN}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{{0,61}}[A-Za-z0-9])?"


def _number_as_text(value: Any) -> Any:
    return str(value) if type(value) in (int, float) else value


ObjectName = Annotated[str, Field(max_length=253, pattern=rf"^{_SUBDOMAIN}$")]
LabelKey = Annotated[str, Field(max_length=317, pattern=rf"^{_QUALIFIED}$")]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]
AnnotationValue = Annotated[str, Field(max_length=4096)]
Cpu = Annotated[
    str, BeforeValidator(_number_as_text), Field(pattern=r"^([1-9]\d{0,5}m|\d{1,4}\.\d{1,3}|[1-9]\d{0,3})$")
]
Bytes = Annotated[str, Field(pattern=r"^[1-9]\d{0,14}(\.\d{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?$")]
DeviceName = Annotated[str, Field(max_length=253, pattern=rf"^{_SUBDOMAIN}/[A-Za-z0-9][A-Za-z0-9_.-]{{0,62}}$")]
UserNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]

_OURS = re.compile(r"(^|\.)(muster|kubernetes\.io|k8s\.io|x-k8s\.io|kubeflow\.org|istio\.io|knative\.dev)$")
_TAKEN_FOLDERS = ("/dev", "/proc", "/sys", "/tmp", "/run", "/var/run")  # noqa: S108 - of the pod


class Resources(Strict):
    """Of one pod, that is of one node of the gang. Memory and GPUs are limits as well, CPU is only asked for."""

    gpus: int = Field(default=0, ge=0, le=64)
    gpu_resource: DeviceName = "nvidia.com/gpu"
    cpu: Cpu | None = None
    memory: Bytes | None = None
    shm: Bytes = "8Gi"
    """Of /dev/shm; what lies there counts as memory of the pod."""
    scratch: Bytes = "50Gi"
    """Of /tmp, on the node's disk: outputs under way, inputs kept for later requests, caches."""


class Volume(Strict):
    """A PersistentVolumeClaim of the namespace, such as the one with the weights."""

    pvc: ObjectName
    mount_path: Annotated[str, Field(max_length=1024, pattern=r"^/[^:]*$")]
    read_only: bool = True
    sub_path: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^/]")] | None = None

    @field_validator("mount_path")
    @classmethod
    def _in_a_free_place(cls, path: str) -> str:
        if posixpath.normpath(path) != path:
            raise ValueError("must be written without '.', '..' and needless slashes")
        if any(taken == path or taken.startswith(path.rstrip("/") + "/") for taken in _TAKEN_FOLDERS):
            raise ValueError(f"would hide {path} of the pod; mount it elsewhere, say at /models")
        if path.startswith(tuple(f"{taken}/" for taken in _TAKEN_FOLDERS)):
            raise ValueError("lies in a folder that Muster or the node fills; mount it elsewhere, say at /models")
        return path

    @field_validator("sub_path")
    @classmethod
    def _below_the_volume(cls, path: str | None) -> str | None:
        if path is not None and ".." in path.split("/"):
            raise ValueError("must not lead out of the volume")
        return path


class Toleration(Strict):
    """As Kubernetes knows it. Without a key it would tolerate everything, also what drains a node: not taken."""

    key: LabelKey
    operator: Literal["Exists", "Equal"] = "Equal"
    value: LabelValue = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, ge=0, le=86400)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError("operator Exists takes no value")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("toleration_seconds goes with effect NoExecute only")
        return self


class SecretKey(Strict):
    """One key of a Secret of the namespace."""

    secret: ObjectName
    key: Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z0-9._-]+$")]


class Pod(Strict):
    """What may be said about the pods of a gang. Backends other than Kubernetes pass over it."""

    resources: Resources = Resources()
    volumes: tuple[Volume, ...] = Field(default=(), max_length=32)
    node_selector: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=32)
    secret_env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")], SecretKey] = Field(
        default_factory=dict
    )
    """Variables whose values stand in Secrets of the namespace: what the storage asks for, say."""
    spread: Literal["hosts", "prefer_hosts", "anywhere"] = "hosts"
    """Whether two pods of one gang may share a host."""
    together: LabelKey | None = None
    """A label of nodes, say topology.kubernetes.io/zone: all pods of one gang stand where its value is the same."""
    priority_class: ObjectName | None = None
    scheduler: ObjectName | None = None
    queue: ObjectName | None = None
    """Kueue's LocalQueue in the namespace."""
    queue_priority: ObjectName | None = None
    """Kueue's WorkloadPriorityClass."""
    image_pull_secrets: tuple[ObjectName, ...] = Field(default=(), max_length=8)
    service_account: ObjectName = "muster-worker"
    """Its token is never mounted."""
    user: UserNumber = 10001
    group: UserNumber = 10001
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    annotations: dict[LabelKey, AnnotationValue] = Field(default_factory=dict)

    @field_validator("labels", "annotations")
    @classmethod
    def _keys_are_free(cls, given: dict[str, str]) -> dict[str, str]:
        for key in given:
            prefix, slash, _ = key.partition("/")
            if slash and _OURS.search(prefix):
                raise ValueError(f"{key}: keys of {prefix} are set by Muster or by the cluster")
        return given

    @field_validator("volumes")
    @classmethod
    def _places_differ(cls, volumes: tuple[Volume, ...]) -> tuple[Volume, ...]:
        places = [volume.mount_path for volume in volumes]
        if twice := sorted({place for place in places if places.count(place) > 1}):
            raise ValueError(f"two volumes are mounted at {twice[0]}")
        return volumes

    @model_validator(mode="after")
    def _priority_needs_a_queue(self) -> Self:
        if self.queue_priority is not None and self.queue is None:
            raise ValueError("queue_priority is Kueue's and needs a queue")
        return self
