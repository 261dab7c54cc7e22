"""deploy/: both overlays build, every object is what Kubernetes knows, and nothing is wider than it must be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
OVERLAYS = ("standalone", "kubeflow")
MODELS = {
    ("v1", "Namespace"): "V1Namespace",
    ("v1", "ServiceAccount"): "V1ServiceAccount",
    ("v1", "ConfigMap"): "V1ConfigMap",
    ("v1", "Service"): "V1Service",
    ("apps/v1", "Deployment"): "V1Deployment",
    ("apps/v1", "StatefulSet"): "V1StatefulSet",
    ("batch/v1", "Job"): "V1Job",
    ("batch/v1", "CronJob"): "V1CronJob",
    ("policy/v1", "PodDisruptionBudget"): "V1PodDisruptionBudget",
    ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): "V1ClusterRole",
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): "V1ClusterRoleBinding",
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): "V1RoleBinding",
}
ISTIO = {"VirtualService", "DestinationRule", "AuthorizationPolicy", "PeerAuthentication"}
Object = dict[str, Any]


def objects(overlay: str) -> tuple[Object, ...]:
    return built(DEPLOY / "overlays" / overlay)


@cache
def built(folder: Path) -> tuple[Object, ...]:
    if shutil.which("kubectl") is None:
        pytest.skip("NOT CHECKED: deploy/ needs kubectl (`kubectl kustomize`) on the PATH")
    told = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert "warn" not in told.stderr.lower(), told.stderr
    return tuple(yaml.safe_load_all(told.stdout))


NIGHTLY = ("nightly", "nightly-batch")


def nightly(name: str) -> Object:
    return dict(yaml.safe_load((DEPLOY / f"components/{name}/{name}.yaml").read_text()))


def pod_of(job: Object) -> Object:
    return dict(job["spec"]["jobTemplate"]["spec"]["template"]["spec"])


def the(overlay: str, kind: str, name: str) -> Object:
    (found,) = (one for one in objects(overlay) if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def pods(overlay: str) -> dict[str, Object]:
    found = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in objects(overlay)
        if one["kind"] in ("Deployment", "StatefulSet", "Job")
    }
    return found | {f"muster-{name}": pod_of(nightly(name)) for name in NIGHTLY}


# ----------------------------------------------------------------------------------------------------------- schemas


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_one_that_kubernetes_models_lose_nothing_of(overlay: str) -> None:
    """A misspelt or misplaced field would be lost, a missing required one refused."""
    client = pytest.importorskip("kubernetes.client")
    api = client.ApiClient()
    unknown = set()
    for one in (*objects(overlay), *map(nightly, NIGHTLY)):
        model = MODELS.get((one["apiVersion"], one["kind"]))
        if model is None:
            unknown.add(one["kind"])
            continue

        class Response:
            data = json.dumps(one)

        name = f"{one['kind']} {one['metadata']['name']}"
        assert api.sanitize_for_serialization(api.deserialize(Response(), model)) == one, name
    assert unknown == (ISTIO if overlay == "kubeflow" else set()), "kinds that nothing checks"


# -------------------------------------------------------------------------------------------------------------- rights

RULES = {
    ("kubeflow.org", "pytorchjobs"): {"get", "list", "watch", "create", "patch", "delete"},
    ("", "pods"): {"get", "list", "watch", "delete"},
    ("", "pods/log"): {"get"},
    ("", "events"): {"list", "watch", "create", "patch"},
    ("", "secrets"): {"create", "delete"},
    ("policy", "poddisruptionbudgets"): {"create", "delete"},
}


def rules(role: Object) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_service_may_do_what_it_needs_and_nothing_else(overlay: str) -> None:
    assert rules(the(overlay, "ClusterRole", "muster")) == RULES


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_its_rights_end_at_the_namespace_of_the_gangs(overlay: str) -> None:
    namespace = settings(overlay)["MUSTER_NAMESPACE"]
    (binding,) = (one for one in objects(overlay) if one["kind"] == "RoleBinding")
    assert binding["metadata"]["namespace"] == namespace
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "muster", "namespace": "muster-system"}]
    wide = [one for one in objects(overlay) if one["kind"] == "ClusterRoleBinding"]
    assert {one["roleRef"]["name"] for one in wide} == ({"muster-authz"} if overlay == "kubeflow" else set())


def test_cluster_wide_it_may_only_ask_what_others_may_do() -> None:
    assert rules(the("kubeflow", "ClusterRole", "muster-authz")) == {
        ("authorization.k8s.io", "subjectaccessreviews"): {"create"},
    }


# ----------------------------------------------------------------------------------------------------------- isolation


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_fits_the_restricted_profile(overlay: str) -> None:
    for name, pod in pods(overlay).items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        assert all({"emptyDir", "persistentVolumeClaim", "configMap"} & set(one) for one in pod.get("volumes", [])), (
            name
        )
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_the_service_has_a_token_of_kubernetes(overlay: str) -> None:
    asked = {name for name, pod in pods(overlay).items() if pod["automountServiceAccountToken"]}
    assert asked == {"muster"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_service_sets_variables_of_muster(overlay: str) -> None:
    """Kubernetes would set MUSTER_PORT=tcp://… for the Service `muster`."""
    assert all(pod["enableServiceLinks"] is False for pod in pods(overlay).values())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_part_of_what_is_applied(overlay: str) -> None:
    assert not [one for one in objects(overlay) if one["kind"] == "Secret"]


# ------------------------------------------------------------------------------------------------------- fits together


def settings(overlay: str) -> dict[str, str]:
    (found,) = (one for one in objects(overlay) if one["kind"] == "ConfigMap")
    return dict(found["data"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_settings_are_ones_that_the_service_reads(overlay: str) -> None:
    from orchestrator.settings import Settings

    known = {f"MUSTER_{name.upper()}" for name in Settings.__dataclass_fields__} | {"MUSTER_HOME"}
    assert set(settings(overlay)) - known == set()
    read = Settings.from_env(settings(overlay) | {"MUSTER_DATABASE_URL": "postgresql://x"})
    assert read.worker_port != read.port


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_door_leads_to_the_port_that_the_settings_name(overlay: str) -> None:
    (container,) = pods(overlay)["muster"]["containers"]
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    given = settings(overlay)
    names = {"http": "MUSTER_PORT", "workers": "MUSTER_WORKER_PORT", "metrics": "MUSTER_METRICS_PORT"}
    names |= {"gateway": "MUSTER_GATEWAY_PORT"} if overlay == "kubeflow" else {}
    assert ports == {door: given[name] for door, name in names.items()}
    (workers,) = the(overlay, "Service", "muster-workers")["spec"]["ports"]
    assert workers["targetPort"] == "workers"
    assert given["MUSTER_API_URLS"] == f"http://muster-workers.muster-system.svc:{workers['port']}"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_of_gangs_alone_come_to_the_workers_door(overlay: str) -> None:
    policy = the(overlay, "NetworkPolicy", "muster-workers")["spec"]
    (ingress,) = policy["ingress"]
    assert ingress["ports"] == [{"port": int(settings(overlay)["MUSTER_WORKER_PORT"])}]
    assert [one["namespaceSelector"]["matchLabels"] for one in ingress["from"]] == [
        {"kubernetes.io/metadata.name": settings(overlay)["MUSTER_NAMESPACE"]},
        {"muster/gangs": "true"},
    ]
    for allowed in ingress["from"]:
        assert {"key": "muster/gang-id", "operator": "Exists"} in allowed["podSelector"]["matchExpressions"]


def test_a_team_is_let_in_by_what_one_command_applies() -> None:
    """The label that deploy/team.sh sets is the one that the service's policy asks for."""
    script = (DEPLOY / "team.sh").read_text()
    policy = the("kubeflow", "NetworkPolicy", "muster-workers")["spec"]
    (label,) = policy["ingress"][0]["from"][1]["namespaceSelector"]["matchLabels"].items()
    assert f"{label[0]}={label[1]}" in script
    applied = built(DEPLOY / "gangs")
    assert {one["kind"] for one in applied} == {"ServiceAccount", "RoleBinding", "NetworkPolicy"}
    assert all("namespace" not in one["metadata"] for one in applied), "kubectl -n says where"
    (binding,) = (one for one in applied if one["kind"] == "RoleBinding")
    assert binding["roleRef"]["name"] == "muster"


def test_where_nothing_goes_out_by_itself_gangs_reach_the_workers_door() -> None:
    (policy,) = built(DEPLOY / "gangs-egress")
    (door,) = (rule for rule in policy["spec"]["egress"] if rule.get("ports") == [{"port": 8381}])
    assert str(door["ports"][0]["port"]) == settings("kubeflow")["MUSTER_WORKER_PORT"]
    service = the("kubeflow", "Deployment", "muster")["spec"]["template"]["metadata"]["labels"]
    assert door["to"][0]["podSelector"]["matchLabels"].items() <= service.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_of_a_service_and_a_policy_finds_a_pod(overlay: str) -> None:
    labels = [
        one["spec"]["template"]["metadata"]["labels"]
        for one in objects(overlay)
        if one["kind"] in ("Deployment", "StatefulSet", "Job")
    ]
    for one in objects(overlay):
        if one["kind"] == "Service":
            wanted = one["spec"]["selector"]
        elif one["kind"] in ("NetworkPolicy", "PodDisruptionBudget") and one["metadata"]["name"] != "muster-gang":
            selector = one["spec"].get("podSelector") or one["spec"].get("selector") or {}
            wanted = selector.get("matchLabels", {})
        else:
            continue
        assert any(wanted.items() <= one.items() for one in labels), (one["kind"], one["metadata"]["name"])


@pytest.mark.parametrize("name", NIGHTLY)
def test_the_night_that_a_job_is_for_is_its_idempotency_key(name: str) -> None:
    (container,) = pod_of(nightly(name))["containers"]
    assert "--idempotency-key=$(JOB_NAME)" in container["args"]
    (named,) = (one for one in container["env"] if one["name"] == "JOB_NAME")
    assert named["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['job-name']"


@pytest.mark.parametrize("name", NIGHTLY)
def test_the_words_of_the_nightly_jobs_are_ones_that_the_command_line_takes(name: str) -> None:
    import click

    from orchestrator.cli.main import muster

    (container,) = pod_of(nightly(name))["containers"]
    command: click.Command = muster
    words = list(container["args"])
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    made = command.make_context(str(command.name), words)
    assert made.params["idempotency_key"] == "$(JOB_NAME)"


# ------------------------------------------------------------------------------------------------- Kubeflow's gateway


def given() -> dict[str, str]:
    return settings("kubeflow")


def test_the_gateways_door_is_open_to_the_gateways_identity_alone() -> None:
    rules = the("kubeflow", "AuthorizationPolicy", "muster")["spec"]["rules"]
    (by_gateway,) = (rule for rule in rules if "from" in rule)
    assert by_gateway == {
        "from": [{"source": {"principals": [given()["MUSTER_GATEWAY_PRINCIPAL"]]}}],
        "to": [{"operation": {"ports": [given()["MUSTER_GATEWAY_PORT"]]}}],
    }
    others = [port for rule in rules if "from" not in rule for to in rule["to"] for port in to["operation"]["ports"]]
    assert others == [given()["MUSTER_PORT"]]
    strict = the("kubeflow", "PeerAuthentication", "muster")["spec"]["portLevelMtls"]
    assert strict == {given()["MUSTER_GATEWAY_PORT"]: {"mode": "STRICT"}}


def test_the_mesh_looks_at_all_that_comes_to_the_gateways_door() -> None:
    annotations = the("kubeflow", "Deployment", "muster")["spec"]["template"]["metadata"]["annotations"]
    outside = annotations["traffic.sidecar.istio.io/excludeInboundPorts"].split(",")
    assert outside == [given()["MUSTER_WORKER_PORT"], given()["MUSTER_METRICS_PORT"]]


def test_every_port_is_reached_from_where_it_is_meant_for_and_nowhere_else() -> None:
    reached: dict[int, list[Any]] = {}
    for one in objects("kubeflow"):
        if one["kind"] == "NetworkPolicy" and "ingress" in one["spec"]:
            for rule in one["spec"]["ingress"]:
                for port in rule.get("ports", []):
                    reached.setdefault(port["port"], []).append(rule["from"])
    (gateway,) = reached[int(given()["MUSTER_GATEWAY_PORT"])]
    assert gateway == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "istio-system"}}}]
    for name in ("MUSTER_PORT", "MUSTER_WORKER_PORT", "MUSTER_METRICS_PORT"):
        assert "istio-system" not in json.dumps(reached[int(given()[name])]), name


def test_what_comes_by_the_gateway_goes_to_its_door_without_the_prefix() -> None:
    prefix = given()["MUSTER_PAGE_PREFIX"]
    (service,) = the("kubeflow", "Service", "muster-gateway")["spec"]["ports"]
    assert (str(service["port"]), service["targetPort"]) == (given()["MUSTER_GATEWAY_PORT"], "gateway")
    bare, *routes = the("kubeflow", "VirtualService", "muster")["spec"]["http"]
    assert bare == {"match": [{"uri": {"exact": prefix}}], "redirect": {"uri": f"{prefix}/"}}
    for route in routes:
        (match,), (to,) = route["match"], route["route"]
        assert match["uri"]["prefix"] == route["headers"]["request"]["set"]["x-forwarded-prefix"] + "/"
        assert route["rewrite"] == {"uri": "/"}
        assert to["destination"]["port"]["number"] == service["port"]
        assert to["destination"]["host"].startswith("muster-gateway.")
    assert [route["match"][0]["uri"]["prefix"] for route in routes] == [f"{prefix}/api/", f"{prefix}/"]  # in this order


def test_the_menu_leads_to_the_prefix() -> None:
    link = (DEPLOY / "overlays/kubeflow/dashboard_link.py").read_text()
    assert f'"link": "{given()["MUSTER_PAGE_PREFIX"]}/"' in link


def test_the_lines_of_the_nightly_batch_are_items_of_the_template_that_ships() -> None:
    from orchestrator.api.input_schema import Form

    form = Form(yaml.safe_load((DEPLOY.parent / "job_templates" / "digits.yaml").read_text())["input"])
    lines = (DEPLOY / "components/nightly-batch/lines.jsonl").read_text().splitlines()
    assert [json.loads(line)["input"]["digit"] for line in lines] == list(range(10))
    assert all(form.fit(json.loads(line)["input"]) for line in lines)


def test_the_nightly_batch_finds_its_lines_where_kustomize_puts_them(tmp_path: Path) -> None:
    component = os.path.relpath(DEPLOY / "components/nightly-batch", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"components": [component]}))
    built = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    lines, job = sorted(yaml.safe_load_all(built.stdout), key=lambda one: str(one["kind"]))
    names = [volume["configMap"]["name"] for volume in pod_of(job)["volumes"] if "configMap" in volume]
    assert (lines["kind"], [lines["metadata"]["name"]], set(lines["data"])) == ("ConfigMap", names, {"lines.jsonl"})
