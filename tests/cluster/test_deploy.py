"""deploy/ and the manifests of shipped templates against a real API server: a dry run, and its word on who may do what.

Kinds and fields that the server is too old for are named, never passed over in silence.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from ground.api import Api, Json, Refused
from ground.cluster import Cluster, until

from job_templates import pytorchjob
from job_templates.pytorchjob import Gang
from orchestrator.cli.template_files import read_template, shipped_names
from orchestrator.domain.template import Template

pytestmark = pytest.mark.cluster
DEPLOY = Path(__file__).parents[2] / "deploy"
OVERLAYS = ("standalone", "kubeflow")
NAMESPACES = ("muster-system", "muster-gangs", "kubeflow-user-example-com")
OLDER = {("policy/v1", "PodDisruptionBudget"): "policy/v1beta1", ("batch/v1", "CronJob"): "batch/v1beta1"}
TOO_NEW = {"/spec/ttlSecondsAfterFinished", "/spec/timeZone"}
"""Fields that 1.20 drops: a Job's time to live was alpha, a CronJob's time zone is of 1.27."""
WRITE_ONLY = {"/stringData"}
FOREIGN = {"VirtualService", "DestinationRule", "AuthorizationPolicy", "PeerAuthentication"}
"""Istio's; no server without it knows them."""


@dataclass
class DryRun:
    """Sends objects with dryRun=All and notes what the server could not judge."""

    api: Api
    unknown: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    def send(self, thing: Json) -> None:
        """Raises Refused when the server knows the kind and does not take the object."""
        path = self._path(thing)
        if path is None:
            self.unknown.add(thing["kind"])
            return
        stored = self._store(path, {**thing, "apiVersion": self._version(thing)})
        self.lost |= set(losses(thing, {**stored, "apiVersion": thing["apiVersion"]})) - WRITE_ONLY

    def _store(self, path: str, thing: Json) -> Json:
        """As if it were made or, where the cluster of all tests has one of that name, replaced."""
        try:
            return self.api.call("POST", path, thing, dryRun="All")
        except Refused as refused:
            if refused.reason != "AlreadyExists":
                raise
            return self.api.call("PUT", f"{path}/{thing['metadata']['name']}", thing, dryRun="All")

    def _path(self, thing: Json) -> str | None:
        version = self._version(thing)
        place = f"/apis/{version}" if "/" in version else f"/api/{version}"
        plural = self._kinds(place).get(thing["kind"])
        if plural is None:
            return None
        namespace = thing["metadata"].get("namespace")
        return f"{place}/namespaces/{namespace}/{plural}" if namespace else f"{place}/{plural}"

    def _version(self, thing: Json) -> str:
        version = str(thing["apiVersion"])
        known = thing["kind"] in self._kinds(f"/apis/{version}" if "/" in version else f"/api/{version}")
        return version if known else OLDER.get((version, thing["kind"]), version)

    def _kinds(self, place: str) -> dict[str, str]:
        try:
            served = self.api.call("GET", place)["resources"]
        except Refused as refused:
            assert refused.status == 404, refused
            return {}
        return {one["kind"]: one["name"] for one in served if "/" not in one["name"]}


def losses(given: Any, stored: Any, path: str = "") -> Iterator[str]:
    """Places of what was given that are not stored as they were given."""
    match given, stored:
        case dict(), dict():
            for name, inner in given.items():
                yield from losses(inner, stored[name], f"{path}/{name}") if name in stored else [f"{path}/{name}"]
        case list(), list() if len(given) == len(stored):
            for number, (inner, kept) in enumerate(zip(given, stored, strict=True)):
                yield from losses(inner, kept, f"{path}/{number}")
        case _ if given != stored:
            yield path


def built(overlay: str) -> list[Json]:
    if shutil.which("kubectl") is None:
        pytest.skip("NOT CHECKED: deploy/ needs kubectl (`kubectl kustomize`) on the PATH")
    command = ["kubectl", "kustomize", str(DEPLOY / "overlays" / overlay)]
    return list(yaml.safe_load_all(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


@pytest.fixture(scope="module")
def here(cluster: Cluster) -> Cluster:
    """With the namespaces that an installation has."""
    for name in NAMESPACES:
        cluster.api.create("namespaces", "", {"metadata": {"name": name}})
    return cluster


def tell(capsys: pytest.CaptureFixture[str], what: str, dry_run: DryRun) -> None:
    with capsys.disabled():
        for kind in sorted(dry_run.unknown):
            print(f"\n!!! NOT CHECKED by this server: {what}: {kind}")
        for place in sorted(dry_run.lost):
            print(f"\n!!! DROPPED by this server: {what}: {place}")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_takes_an_installation_as_it_is(
    here: Cluster, overlay: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dry_run = DryRun(here.api)
    names = ("nightly", "nightly-batch")
    nightly = [yaml.safe_load((DEPLOY / f"components/{name}/{name}.yaml").read_text()) for name in names]
    for thing in (*built(overlay), *nightly):
        if thing["kind"] != "Namespace":  # there already, for the others to be in
            dry_run.send(thing)
    tell(capsys, overlay, dry_run)
    assert dry_run.unknown <= (FOREIGN if overlay == "kubeflow" else set())
    assert dry_run.lost <= TOO_NEW


@pytest.mark.parametrize("mode", ["serve", "batch"])
@pytest.mark.parametrize("name", shipped_names())
def test_the_server_takes_the_gangs_of_every_shipped_template(
    here: Cluster, name: str, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    template = Template.model_validate({"image": "registry.example.com/gang:1.0"} | _plain(read_template(name)))
    gang = Gang(
        id="gng_" + 26 * "0",
        name=f"m-{mode[0]}-x",
        namespace="muster-gangs",
        mode=mode,
        template=template,
        api_urls=("http://muster-workers.muster-system.svc:8381",),
    )
    dry_run = DryRun(here.api)
    budget = pytorchjob.disruption_budget(gang, "uid")
    for thing in (pytorchjob.job(gang), pytorchjob.token_secret(gang, "t", "uid"), *([budget] if budget else [])):
        dry_run.send(thing)
    tell(capsys, name, dry_run)
    assert (dry_run.unknown, dry_run.lost) == (set(), set())


def _plain(document: Json) -> Json:
    return {key: value for key, value in copy.deepcopy(document).items() if value is not None}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_says_that_the_service_may_act_where_its_gangs_are_and_nowhere_else(
    here: Cluster, overlay: str
) -> None:
    objects = built(overlay)
    rights = [
        one
        for one in objects
        if one["apiVersion"] == "rbac.authorization.k8s.io/v1"
        and (one["kind"], one["metadata"]["name"]) != ("ClusterRole", "muster")  # the cluster of all tests has it
    ]
    (binding,) = (one for one in rights if one["kind"] == "RoleBinding")
    home = binding["metadata"]["namespace"]
    places = [_place(one) for one in rights]
    for one, place in zip(rights, places, strict=True):
        here.api.call("POST", place, one)
    try:
        until(lambda: allowed(here.api, home, "create", "pytorchjobs", "kubeflow.org"), "our rights are known")
        assert allowed(here.api, home, "create", "secrets")
        for verb, resource, group in NEVER:
            assert not allowed(here.api, home, verb, resource, group), (verb, resource)
        for elsewhere in (*set(NAMESPACES) - {home}, "kube-system"):
            for verb, resource, group in (("create", "pytorchjobs", "kubeflow.org"), ("delete", "pods", "")):
                assert not allowed(here.api, elsewhere, verb, resource, group), (elsewhere, resource)
    finally:
        for one, place in zip(rights, places, strict=True):
            here.api.call("DELETE", f"{place}/{one['metadata']['name']}")
        until(lambda: not allowed(here.api, home, "create", "secrets"), "our rights are gone")


NEVER = (
    ("get", "secrets", ""),
    ("list", "secrets", ""),
    ("create", "pods", ""),
    ("create", "pods/exec", ""),
    ("update", "pytorchjobs/status", "kubeflow.org"),
    ("get", "configmaps", ""),
    ("create", "rolebindings", "rbac.authorization.k8s.io"),
    ("impersonate", "users", ""),
)


def _place(one: Json) -> str:
    plural = one["kind"].lower() + "s"
    namespace = one["metadata"].get("namespace")
    return f"/apis/rbac.authorization.k8s.io/v1{f'/namespaces/{namespace}' if namespace else ''}/{plural}"


def allowed(api: Api, namespace: str, verb: str, resource: str, group: str = "") -> bool:
    """The server's answer about our ServiceAccount."""
    resource, _, subresource = resource.partition("/")
    asked = {"namespace": namespace, "verb": verb, "resource": resource, "subresource": subresource, "group": group}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": "system:serviceaccount:muster-system:muster", "resourceAttributes": asked},
    }
    review = api.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    return bool(review["status"]["allowed"])
