"""Gangs of shell scripts, made from the product's own manifests: for tests of the backend alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from contract.test_backend_conformance import BEHAVIOURS
from ground.cluster import Namespace
from ground.container import JOB_MARK, marked

from orchestrator.backends.base import LaunchSpec
from orchestrator.backends.kubeflow import KubeflowBackend
from orchestrator.backends.kubeflow_wall import Kube
from orchestrator.domain.template import Template
from orchestrator.place import PyTorchJobs


class Behaving(PyTorchJobs):
    """The manifests of the product, whose containers run a shell script instead of ranks."""

    def job(self, spec: LaunchSpec) -> dict[str, Any]:
        job = super().job(spec)
        container = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
        container["command"] = ["/bin/sh", "-c", BEHAVIOURS[spec.template["args"]["behaviour"]]]  # type: ignore[index]
        return job


class KubeflowGround:
    """Survives being sent to another process: it holds names only."""

    def __init__(self, folder: Path, namespace: Namespace) -> None:
        self._namespace = namespace
        self._count = folder / "count"
        self._count.touch()

    @property
    def namespace(self) -> str:
        return self._namespace.name

    def open(self) -> KubeflowBackend:
        manifests = Behaving(namespace=self._namespace.name, installation="muster")
        return KubeflowBackend(
            manifests,
            namespace=self._namespace.name,
            installation="muster",
            kube=Kube(self._namespace.kubeconfig),
        )

    def spec(
        self,
        behaviour: str,
        *,
        name: str = "digits-1",
        gang: str = "gng_1",
        nodes: int = 1,
        mode: str = "batch",
        image: str = "registry.example/muster/worker:1",
        **pod: Any,
    ) -> LaunchSpec:
        """Of mode batch unless a test says so: pods of serve gangs are restarted for ever."""
        template = Template.model_validate(
            {
                "name": "digits",
                "handler": "samples.echo:Echo",
                "image": image,
                "nodes": nodes,
                "env": {"COUNT": f"/.{self._count}", "WISH": "granted"},  # /./ leads past the pod's own /tmp
                "args": {"behaviour": behaviour},
                "pod": pod,
            }
        )
        return LaunchSpec(
            gang=gang,
            name=name,
            mode=mode,
            nodes=nodes,
            ranks_per_node=1,
            api_urls=("http://127.0.0.1:1", "http://127.0.0.1:2"),
            token=f"secret-{uuid4().hex}",
            template=template.spec,
        )

    def starts(self) -> int:
        return len(self._count.read_text().splitlines())

    def agents(self, ref: str) -> list[int]:
        found = marked(JOB_MARK, ref)
        pids = {process.pid for process in found}
        first = [process for process in found if process.ppid() not in pids]
        return [process.pid for process in sorted(first, key=_node)]

    def left(self, ref: str) -> list[str]:
        return [str(process) for process in marked(JOB_MARK, ref)]


def _node(process: psutil.Process) -> str:
    return str(process.environ()["MUSTER_NODE"])
