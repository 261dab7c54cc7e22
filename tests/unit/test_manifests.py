"""What a gang is on Kubernetes: docs/decisions/0011-manifests.md says why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from job_templates import pytorchjob
from job_templates.pytorchjob import Gang
from orchestrator.domain.template import Template
from orchestrator.errors import Invalid

POD: dict[str, Any] = {
    "resources": {"gpus": 4, "cpu": 32, "memory": "400Gi", "shm": "64Gi"},
    "volumes": [
        {"pvc": "weights", "mount_path": "/models"},
        {"pvc": "outputs", "mount_path": "/outputs", "read_only": False, "sub_path": "team-a"},
    ],
    "node_selector": {"gpu": "h200"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "together": "topology.kubernetes.io/zone",
    "priority_class": "high",
    "scheduler": "volcano",
    "queue": "serve-lq",
    "queue_priority": "serve-high",
    "image_pull_secrets": ["registry"],
    "labels": {"team": "a"},
    "annotations": {"example.com/why": "a test"},
}


def gang(mode: str = "serve", *, name: str = "m-s-wan-bcdfghjkmn", lead: str | None = None, **template: Any) -> Gang:
    document = {
        "name": "wan",
        "handler": "wan:Wan",
        "image": "registry.example.com/wan@sha256:" + 64 * "0",
        "nodes": 2,
        "ranks_per_node": 4,
        "pod": POD,
    } | template
    return Gang(
        id="gng_01jx7c0m8q9v",
        name=name,
        namespace="team-a",
        mode=mode,
        template=Template.model_validate(document),
        api_urls=("http://muster-worker.muster.svc:8381",),
        lead=lead,
    )


def worker(of: Gang) -> dict[str, Any]:
    spec: dict[str, Any] = pytorchjob.job(of)["spec"]["pytorchReplicaSpecs"]
    assert list(spec) == ["Worker"], "a Master would bring an init container and a success of its own"
    return dict(spec["Worker"])


def pod(of: Gang) -> dict[str, Any]:
    return dict(worker(of)["template"]["spec"])


def env(of: Gang) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in pod(of)["containers"][0]["env"]}


# ------------------------------------------------------------------------------------------------------- the modes


def test_a_serve_gang_is_elastic_of_fixed_size_and_comes_back_whatever_ends() -> None:
    spec = pytorchjob.job(gang())["spec"]
    assert worker(gang())["restartPolicy"] == "Always"
    assert spec["elasticPolicy"]["minReplicas"] == spec["elasticPolicy"]["maxReplicas"] == 2
    assert spec["elasticPolicy"]["rdzvBackend"] == "c10d"
    assert spec["elasticPolicy"]["maxRestarts"] > 0
    assert pod(gang())["containers"][0]["command"] == ["python", "-m", "inference.agent", "-m", "inference"]


def test_a_batch_gang_ends_with_its_last_pod_and_is_never_restarted() -> None:
    of = gang("batch")
    assert "elasticPolicy" not in pytorchjob.job(of)["spec"]
    assert worker(of)["restartPolicy"] == "Never"
    command = pod(of)["containers"][0]["command"]
    assert "--rdzv-endpoint=m-s-wan-bcdfghjkmn-worker-0:29400" in command
    assert {"--nnodes=2", "--nproc-per-node=4", "--max-restarts=0"} < set(command)


@pytest.mark.parametrize("mode", ["serve", "batch"])
def test_no_gpu_is_kept_after_the_end_and_no_deadline_is_left_to_the_operator(mode: str) -> None:
    policy = pytorchjob.job(gang(mode))["spec"]["runPolicy"]
    assert policy["cleanPodPolicy"] == "Running"
    assert policy["ttlSecondsAfterFinished"] > 0
    assert not {"backoffLimit", "activeDeadlineSeconds"} & set(policy)


@pytest.mark.parametrize("mode", ["serve", "batch"])
def test_the_scale_subresource_finds_the_number_of_nodes(mode: str) -> None:
    assert worker(gang(mode))["replicas"] == 2
    assert pytorchjob.job(gang(mode))["spec"]["nprocPerNode"] == "4"


# ------------------------------------------------------------------------------------------------------- isolation


@pytest.mark.parametrize("mode", ["serve", "batch"])
def test_pods_are_restricted(mode: str) -> None:
    spec = pod(gang(mode))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "shareProcessNamespace"} & set(spec)
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {key for volume in spec["volumes"] for key in volume if key != "name"} <= {
        "emptyDir",
        "secret",
        "persistentVolumeClaim",
    }


def test_the_mesh_stays_out_of_pods() -> None:
    metadata = worker(gang())["template"]["metadata"]
    assert metadata["labels"]["sidecar.istio.io/inject"] == "false"
    assert metadata["annotations"]["sidecar.istio.io/inject"] == "false"
    assert metadata["labels"]["istio.io/dataplane-mode"] == "none"


def test_pods_have_no_readiness_probe() -> None:
    """The operator's services publish ready pods only, and worker-0 must be found before it can be ready."""
    (container,) = pod(gang())["containers"]
    assert not {"readinessProbe", "startupProbe"} & set(container)


def test_a_serve_gang_may_finish_its_request_before_its_pods_go() -> None:
    for asked, stays in ((7200, 840), (100.5, 101)):
        of = gang(limits={"timeout_s": asked})
        hook = pod(of)["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert hook == ["python", "-m", "inference.recall", f"--seconds={stays}"]
        assert pod(of)["terminationGracePeriodSeconds"] == stays + 60
    assert "lifecycle" not in pod(gang("batch"))["containers"][0]


def test_a_template_cannot_take_back_what_the_manifest_sets() -> None:
    of = gang(env={"HOME": "/elsewhere", "NCCL_SOCKET_IFNAME": "ib0"}, pod=POD | {"labels": {"app": "x"}})
    assert env(of)["HOME"] == "/elsewhere"
    assert env(of)["NCCL_SOCKET_IFNAME"] == "ib0"
    assert env(of)["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
    labels = worker(of)["template"]["metadata"]["labels"]
    assert labels["app"] == "x"
    assert labels["muster/gang-id"] == of.id


def test_the_text_of_a_variable_is_no_reference_to_another_one() -> None:
    assert env(gang(env={"X": "$(MUSTER_TOKEN_FILE)"}))["X"] == "$$(MUSTER_TOKEN_FILE)"


# ----------------------------------------------------------------------------------------------------- environment


@pytest.mark.parametrize("mode", ["serve", "batch"])
def test_pods_get_what_the_protocol_names_and_the_token_as_a_file(mode: str) -> None:
    of = gang(mode)
    assert env(of)["MUSTER_API_URLS"] == "http://muster-worker.muster.svc:8381"
    assert env(of)["MUSTER_GANG"] == of.id
    assert env(of)["MUSTER_TOKEN_FILE"] == "/var/run/muster/token"
    assert env(of)["OMP_NUM_THREADS"] == "8"
    assert "MUSTER_TOKEN" not in env(of)
    token = next(one for one in pod(of)["volumes"] if one["name"] == "token")
    assert token["secret"]["secretName"] == f"{of.name}-token"


def test_the_ranks_of_a_gang_with_replicas_know_how_many() -> None:
    assert "MUSTER_REPLICAS" not in env(gang())
    assert env(gang(nodes=1, ranks_per_node=8, replicas=4, geometry=[]))["MUSTER_REPLICAS"] == "4"


def test_every_writable_path_is_a_volume() -> None:
    mounts = {one["mountPath"]: one.get("readOnly", False) for one in pod(gang())["containers"][0]["volumeMounts"]}
    assert mounts == {
        "/dev/shm": False,
        "/tmp": False,
        "/var/run/muster": True,
        "/models": True,
        "/outputs": False,
    }
    assert env(gang())["MUSTER_SCRATCH"].startswith("/tmp/")


def test_the_pods_of_a_gang_bear_different_node_names() -> None:
    """Preflight counts devices per node; a host may carry two pods."""
    named = {one["name"]: one.get("valueFrom") for one in pod(gang())["containers"][0]["env"]}
    assert named["MUSTER_NODE"] == {"fieldRef": {"fieldPath": "metadata.name"}}


# ------------------------------------------------------------------------------------------------------- placement


def test_the_template_says_where_pods_run() -> None:
    spec = pod(gang())
    assert spec["nodeSelector"] == {"gpu": "h200"}
    assert spec["priorityClassName"] == "high"
    assert spec["schedulerName"] == "volcano"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["tolerations"][0] == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert {one.get("tolerationSeconds") for one in spec["tolerations"][1:]} == {60}
    apart, near = (
        spec["affinity"][kind]["requiredDuringSchedulingIgnoredDuringExecution"][0]
        for kind in ("podAntiAffinity", "podAffinity")
    )
    assert (apart["topologyKey"], near["topologyKey"]) == ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    assert apart["labelSelector"] == {"matchLabels": {"muster/gang-id": "gng_01jx7c0m8q9v"}}


def test_gpus_and_memory_are_limits_as_well() -> None:
    assert pod(gang())["containers"][0]["resources"] == {
        "requests": {"cpu": "32", "memory": "400Gi", "nvidia.com/gpu": "4"},
        "limits": {"memory": "400Gi", "nvidia.com/gpu": "4"},
    }


def test_a_pod_that_asks_for_no_gpu_sees_none_whatever_its_image_wants() -> None:
    assert env(gang(pod={}))["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert env(gang(pod={}, env={"NVIDIA_VISIBLE_DEVICES": "all"}))["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "NVIDIA_VISIBLE_DEVICES" not in env(gang())


def test_kueue_is_asked_on_the_job_where_the_template_names_a_queue() -> None:
    labels = pytorchjob.job(gang())["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "serve-lq"
    assert labels["kueue.x-k8s.io/priority-class"] == "serve-high"
    assert not [key for key in pytorchjob.job(gang(pod={}))["metadata"]["labels"] if "kueue" in key]


# ------------------------------------------------------------------------------------------------------ side objects


def test_what_goes_with_the_job_is_owned_by_it_without_a_right_on_its_finalizers() -> None:
    budget = pytorchjob.disruption_budget(gang(), "uid-1")
    assert budget is not None
    for one in (budget, pytorchjob.token_secret(gang(), "secret", "uid-1")):
        (owner,) = one["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["kind"], owner["name"]) == ("uid-1", "PyTorchJob", gang().name)
        assert owner["blockOwnerDeletion"] is False
    assert budget["spec"]["minAvailable"] == 2
    assert pytorchjob.disruption_budget(gang("batch"), "uid-1") is None


def test_the_token_stands_in_its_secret_only() -> None:
    assert pytorchjob.token_secret(gang(), "s3cret", "uid-1")["stringData"] == {"token": "s3cret"}
    assert "s3cret" not in json.dumps(pytorchjob.job(gang()))


def test_a_link_to_our_page_is_an_annotation() -> None:
    annotations = pytorchjob.job(gang(lead="https://example.com/muster/gangs/1"))["metadata"]["annotations"]
    assert annotations["muster/url"] == "https://example.com/muster/gangs/1"
    assert annotations["muster/spec-hash"] == f"sha256:{gang().template.digest.hex()}"


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["x" * 41, "1abc", "UPPER", "a_b", "-a", "a-", ""])
def test_names_that_the_operator_would_choke_on_are_refused(name: str) -> None:
    with pytest.raises(Invalid):
        gang(name=name)


def test_a_gang_without_an_image_is_refused_with_a_pointer() -> None:
    with pytest.raises(Invalid) as refused:
        gang(image=None)
    assert refused.value.pointer == "/image"


def test_the_longest_name_leaves_room_for_the_service_of_any_node() -> None:
    of = gang(name="a" * 40, nodes=1024)
    assert len(f"{of.name}-worker-1023") <= 63
    assert len(of.token_secret) <= 63


# -------------------------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("mode", ["serve", "batch"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_the_models_of_kubeflow_training_lose_nothing(mode: str, nodes: int) -> None:
    api_client = pytest.importorskip("kubeflow.training.api_client")
    written = pytorchjob.job(gang(mode, nodes=nodes, lead="https://example.com"))

    class Response:
        data = json.dumps(written)

    client = api_client.ApiClient()
    read = client.deserialize(Response(), "KubeflowOrgV1PyTorchJob")
    assert client.sanitize_for_serialization(read) == written
