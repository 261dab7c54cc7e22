"""A cluster for one test run, and namespaces in it, each with our ServiceAccount bound to exactly our Role."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from . import binaries
from .api import ALL_KINDS, Api, Json, Refused, label
from .container import JOB_MARK, marked
from .control_plane import ControlPlane
from .kubelet import Kubelet
from .operator import Operator

RBAC = "/apis/rbac.authorization.k8s.io/v1"
OUR_LABEL = "app.kubernetes.io/name"

ROLES = Path(__file__).parents[3] / "deploy" / "base" / "roles.yaml"
"""What an installation grants us, and nothing else."""


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """Where one service may work. `kubeconfig` is that of our ServiceAccount."""

    name: str
    kubeconfig: Path
    token: str


class Cluster:
    def __init__(self, folder: Path, *, operator: bool = True, kubelet: bool = True) -> None:
        self.folder = folder
        self.plane = ControlPlane(folder, binaries.find())
        self.operator = Operator(self.plane.api)
        self.kubelet = Kubelet(self.plane.api, folder)
        self._plays = [part for part, wanted in ((self.operator, operator), (self.kubelet, kubelet)) if wanted]

    @property
    def api(self) -> Api:
        return self.plane.api

    def start(self) -> None:
        try:
            self.plane.start()
            self._serve_pytorchjobs()
            self.plane.start_controllers()
            for part in self._plays:
                part.start()
        except BaseException:
            self.plane.stop()
            raise

    def stop(self) -> None:
        for part in self._plays:
            part.stop()
        self.plane.stop()
        assert not self.operator.defects, self.operator.defects
        assert not self.kubelet.defects, self.kubelet.defects

    def namespace(self) -> Namespace:
        """A new one."""
        name = f"team-{uuid4().hex[:8]}"
        self.api.create("namespaces", "", {"metadata": {"name": name}})
        self.api.create("serviceaccounts", name, {"metadata": {"name": "muster"}})
        binding = {
            "metadata": {"name": "muster"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "muster"},
            "subjects": [{"kind": "ServiceAccount", "name": "muster", "namespace": name}],
        }
        self.api.call("POST", f"{RBAC}/namespaces/{name}/rolebindings", binding)
        token = self.service_account_token(name, "muster")
        return Namespace(name=name, kubeconfig=self.plane.kubeconfig(name, token), token=token)

    def service_account_token(self, namespace: str, account: str) -> str:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}}
        return str(self.api.call("POST", path, body)["status"]["token"])

    def ours(self, namespace: str) -> list[str]:
        """Every object in the namespace that carries our label or belongs to one of our jobs."""
        found = []
        for kind in ALL_KINDS:
            for thing in self.api.list(kind, namespace):
                jobs = [o for o in thing["metadata"].get("ownerReferences", []) if o["kind"] == "PyTorchJob"]
                if jobs or label(thing, OUR_LABEL) == "muster":
                    found.append(f"{kind}/{thing['metadata']['name']}")
        return found

    def one(self, kind: str, namespace: str) -> Json:
        """The only one of its kind there."""
        things = self.api.list(kind, namespace)
        assert len(things) == 1, [thing["metadata"]["name"] for thing in things]
        return things[0]

    def processes_of_job(self, uid: str) -> list[Any]:
        return marked(JOB_MARK, uid)

    def _serve_pytorchjobs(self) -> None:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        self.api.call("POST", path, crd(os.environ))
        until(self._served, "the API server serves PyTorchJobs")
        for role in yaml.safe_load_all(ROLES.read_text()):
            if role and role["metadata"]["name"] == "muster":
                self.api.call("POST", f"{RBAC}/{role['kind'].lower()}s", role)

    def _served(self) -> bool:
        try:
            self.api.list("pytorchjobs")
        except Refused as refused:
            if refused.status != 404:
                raise
            return False
        return True


def crd(environ: Mapping[str, str]) -> Json:
    """The real definition where MUSTER_KUBEFLOW_CRD says it lies; else one that takes anything."""
    if file := environ.get("MUSTER_KUBEFLOW_CRD"):
        real: Json = yaml.load(Path(file).read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return json.loads(json.dumps(real, default=str))  # type: ignore[no-any-return]
    names = {"kind": "PyTorchJob", "listKind": "PyTorchJobList", "plural": "pytorchjobs", "singular": "pytorchjob"}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "pytorchjobs.kubeflow.org"},
        "spec": {"group": "kubeflow.org", "names": names, "scope": "Namespaced", "versions": [version]},
    }


def until(look: Callable[[], Any], what: str, within_s: float = 30.0) -> Any:
    """The first answer that is true."""
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {within_s:g} s in vain: {what}"
        time.sleep(0.05)
    return found
