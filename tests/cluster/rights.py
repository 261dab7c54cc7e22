"""Rights of people on a real API server: roles on PyTorchJobs, bound per namespace, and our right to ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from ground.api import Json
from ground.cluster import Cluster, Namespace, until

RBAC = "/apis/rbac.authorization.k8s.io/v1"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
IDENTITY = Path(__file__).parents[2] / "deploy/overlays/kubeflow/identity.yaml"


def bind(cluster: Cluster, namespace: str, verbs: tuple[str, ...], *, user: str | None = None, **other: Any) -> str:
    """A user (or the `group` or ServiceAccount `account` of it) gets these verbs; returns the binding's name."""
    name = f"r-{uuid4().hex[:8]}"
    subject: Json = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    if group := other.get("group"):
        subject = {"kind": "Group", "name": group, "apiGroup": "rbac.authorization.k8s.io"}
    if account := other.get("account"):
        subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    rule = {"apiGroups": ["kubeflow.org"], "resources": ["pytorchjobs"], "verbs": list(verbs)}
    binding = {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [subject],
    }
    place = f"{RBAC}/namespaces/{namespace}"
    cluster.api.call("POST", f"{place}/roles", {"metadata": {"name": name}, "rules": [rule]})
    cluster.api.call("POST", f"{place}/rolebindings", {"metadata": {"name": name}, **binding})
    who = {"user": user} if user else {"user": "x", "groups": [other["group"]]} if group else None
    if who and verbs != ("*",):
        until(lambda: allowed(cluster, who, namespace, verbs[-1]), "the API server knows of the right")
    return name


def unbind(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.api.call("DELETE", f"{RBAC}/namespaces/{namespace}/rolebindings/{name}")


def allowed(cluster: Cluster, who: Json, namespace: str, verb: str) -> bool:
    what = {"group": "kubeflow.org", "resource": "pytorchjobs", "namespace": namespace, "verb": verb}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    answer = cluster.api.call("POST", REVIEWS, {**review, "spec": {**who, "resourceAttributes": what}})
    return bool(answer["status"]["allowed"])


@contextmanager
def may_ask(cluster: Cluster, namespace: Namespace) -> Iterator[None]:
    """What the overlay grants our ServiceAccount, granted to that of this namespace."""
    made = []
    for thing in yaml.safe_load_all(IDENTITY.read_text()):
        if thing["kind"] == "ClusterRoleBinding":
            thing["subjects"][0]["namespace"] = namespace.name
        made.append(f"{RBAC}/{thing['kind'].lower()}s")
        cluster.api.call("POST", made[-1], thing)
        made[-1] += f"/{thing['metadata']['name']}"
    try:
        yield
    finally:
        for path in made:
            cluster.api.call("DELETE", path)
