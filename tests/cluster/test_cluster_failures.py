"""What the Kubeflow backend makes of failures, one by one: what is seen, what is said, and that nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from behaving import KubeflowGround
from contract.test_backend_conformance import AT_ONCE, the, until, until_phase
from ground.cluster import RBAC, Cluster, Namespace
from ground.webhook import webhook

from orchestrator.backends import kubeflow_judge, kubeflow_leaving
from orchestrator.backends.base import Launched, Observed, Phase
from orchestrator.backends.kubeflow import KubeflowBackend
from orchestrator.backends.kubeflow_names import Json
from orchestrator.backends.kubeflow_wall import Kube, Lost
from orchestrator.errors import BackendError

pytestmark = pytest.mark.cluster


@pytest.fixture
def backend(ground: KubeflowGround) -> Iterator[KubeflowBackend]:
    backend = ground.open()
    yield backend
    backend.close()


def until_reason(backend: KubeflowBackend, reason: str) -> Observed:
    until(lambda: the(backend).reason == reason, timedelta(seconds=25))
    return the(backend)


def pods(cluster: Cluster, namespace: Namespace) -> list[dict[str, Any]]:
    return sorted(cluster.api.list("pods", namespace.name), key=lambda pod: str(pod["metadata"]["name"]))


def refused(backend: KubeflowBackend, ground: KubeflowGround) -> BackendError:
    with pytest.raises(BackendError) as refusal:
        backend.launch(ground.spec("stay"))
    return refusal.value


# create


@pytest.mark.parametrize("kind", ["pytorchjobs", "secrets", "poddisruptionbudgets"])
@pytest.mark.parametrize("arrives", [True, False], ids=["carried_out", "not_carried_out"])
def test_a_call_without_an_answer_is_healed_by_the_next_launch_and_nothing_is_doubled(
    ground: KubeflowGround,
    backend: KubeflowBackend,
    cluster: Cluster,
    namespace: Namespace,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    arrives: bool,
) -> None:
    call = Kube.call

    def losing(self: Kube, method: str, path: str, *rest: Any, **more: Any) -> Any:
        if method == "POST" and path.endswith(kind):
            monkeypatch.setattr(Kube, "call", call)
            if arrives:
                call(self, method, path, *rest, **more)
            raise Lost("the connection broke", code="backend_unavailable")
        return call(self, method, path, *rest, **more)

    monkeypatch.setattr(Kube, "call", losing)
    spec = ground.spec("stay", mode="serve")
    with pytest.raises(Lost):
        backend.launch(spec)

    again = backend.launch(spec)

    job = cluster.one("pytorchjobs", namespace.name)
    assert again == Launched(ref=job["metadata"]["uid"], adopted=arrives or kind != "pytorchjobs")
    until_phase(backend, Phase.RUNNING)
    for owned in ("secrets", "poddisruptionbudgets"):
        owners = cluster.one(owned, namespace.name)["metadata"]["ownerReferences"]
        assert [owner["uid"] for owner in owners] == [again.ref]
    assert ground.starts() == 1


def test_a_webhook_that_denies_refuses_for_good(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace, tmp_path: Path
) -> None:
    with webhook(cluster.api, tmp_path, namespace.name):
        until(lambda: _denied(cluster, namespace))
        refusal = refused(backend, ground)
    assert refusal.code == "rejected"
    assert "a test says so" in refusal.message


def _denied(cluster: Cluster, namespace: Namespace) -> bool:
    """The API server takes a moment to know of a webhook."""
    bodies = {"metadata": {"name": "trial"}, "apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob"}
    spec = {"runPolicy": {"suspend": True}, "pytorchReplicaSpecs": {}}
    try:
        cluster.api.call(
            "POST",
            f"/apis/kubeflow.org/v1/namespaces/{namespace.name}/pytorchjobs",
            {**bodies, "spec": spec},
            dryRun="All",
        )
    except Exception as error:
        return "webhook" in str(error)
    return False


def test_a_webhook_that_is_away_is_tried_again(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace, tmp_path: Path
) -> None:
    with webhook(cluster.api, tmp_path, namespace.name, away=True):
        until(lambda: _denied(cluster, namespace))
        assert refused(backend, ground).code == "operator_away"
    until(lambda: not _denied(cluster, namespace))
    backend.launch(ground.spec("stay"))
    until_phase(backend, Phase.RUNNING)


def test_without_a_right_it_says_which_one_is_missing(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    roles = f"{RBAC}/namespaces/{namespace.name}/roles"
    rule = {"apiGroups": ["kubeflow.org"], "resources": ["pytorchjobs"], "verbs": ["get", "list", "watch"]}
    cluster.api.call("POST", roles, {**_named("looks"), "rules": [rule]})
    with _bound_to_nothing(cluster, namespace) as held:
        looks = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "looks"}
        binding = {**_named("looks"), "roleRef": looks, "subjects": held["subjects"]}
        cluster.api.call("POST", f"{RBAC}/namespaces/{namespace.name}/rolebindings", binding)
        refusal = until(lambda: _refused_with(backend, ground, "forbidden"))
        assert 'cannot create resource "pytorchjobs"' in refusal.message


def test_without_any_right_it_says_that_the_namespace_does_not_let_it_in(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    with _bound_to_nothing(cluster, namespace):
        refusal = until(lambda: _refused_with(backend, ground, "namespace_gone"))
        assert "does not let Muster in" in refusal.message and namespace.name in refusal.message


@contextmanager
def _bound_to_nothing(cluster: Cluster, namespace: Namespace) -> Iterator[Json]:
    """The RoleBinding that is taken away meanwhile."""
    bindings = f"{RBAC}/namespaces/{namespace.name}/rolebindings"
    held = cluster.api.call("GET", f"{bindings}/muster")
    cluster.api.call("DELETE", f"{bindings}/muster")
    try:
        yield held
    finally:
        cluster.api.call("POST", bindings, {key: held[key] for key in ("roleRef", "subjects")} | _named("muster"))


def _refused_with(backend: KubeflowBackend, ground: KubeflowGround, code: str) -> BackendError | None:
    """The authorizer takes a moment to forget a binding, and to learn of one."""
    try:
        backend.launch(ground.spec("stay"))
    except BackendError as error:
        return error if error.code == code else None
    backend.stop("digits-1", AT_ONCE)
    return None


def _named(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


# a start that does not get on


@pytest.mark.parametrize(
    ("reason", "words", "wishes"),
    [
        ("create_pod", "no PriorityClass with name missing was found", {"priority_class": "missing"}),
        ("unschedulable", "Insufficient nvidia.com/gpu", {"resources": {"gpus": 9}}),
        ("unschedulable", "node affinity/selector", {"node_selector": {"disk": "fast"}}),
        ("image_pull", 'Back-off pulling image "registry.example/missing:1"', {"image": "registry.example/missing:1"}),
        ("mount", 'persistentvolumeclaim "weights" not found', {"volumes": [{"pvc": "weights", "mount_path": "/m"}]}),
    ],
    ids=["priority_class", "gpus", "selector", "image", "volume"],
)
def test_why_a_gang_does_not_start_is_said(
    ground: KubeflowGround, backend: KubeflowBackend, reason: str, words: str, wishes: dict[str, Any]
) -> None:
    backend.launch(ground.spec("stay", **wishes))

    seen = until_reason(backend, reason)

    assert (seen.phase, seen.nodes_running) == (Phase.PENDING, 0)
    until(lambda: words in str(the(backend).detail))


def test_a_quota_on_pods_is_said_in_its_own_words(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    cluster.api.create("resourcequotas", namespace.name, quota)
    cluster.api.patch(
        "resourcequotas", namespace.name, "none", {"status": quota["spec"] | {"used": {"pods": "0"}}}, "/status"
    )

    backend.launch(ground.spec("stay"))

    assert "exceeded quota: none" in str(until_reason(backend, "create_pod").detail)


def test_half_a_gang_is_not_a_gang_and_goes_as_a_whole(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    launched = backend.launch(ground.spec("stay", nodes=5))  # on different hosts, of which there are four

    seen = until(lambda: (one := the(backend)).nodes_running == 4 and one.reason == "unschedulable" and one)

    assert seen.phase is Phase.PENDING
    assert "anti-affinity" in seen.detail
    job = cluster.one("pytorchjobs", namespace.name)
    until(lambda: cluster.one("pytorchjobs", namespace.name)["status"]["replicaStatuses"]["Worker"]["active"] == 4)
    assert job["metadata"]["uid"] == launched.ref
    backend.stop("digits-1", AT_ONCE)
    until(lambda: backend.observe() == ())
    assert ground.left(launched.ref) == []


def test_a_gang_waits_for_an_operator_that_is_away(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster
) -> None:
    cluster.operator.pause()
    try:
        backend.launch(ground.spec("stay"))
        assert until_reason(backend, "no_pods").phase is Phase.PENDING
    finally:
        cluster.operator.resume()
    until_phase(backend, Phase.RUNNING)


def test_a_suspended_gang_waits_and_goes_on_with_new_pods(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    backend.launch(ground.spec("stay", mode="serve"))
    until_phase(backend, Phase.RUNNING)
    suspend = {"spec": {"runPolicy": {"suspend": True}}}
    cluster.api.patch("pytorchjobs", namespace.name, "digits-1", suspend)

    assert until_reason(backend, "suspended").phase is Phase.PENDING
    until(lambda: the(backend).nodes_running == 0)

    suspend["spec"]["runPolicy"]["suspend"] = False
    cluster.api.patch("pytorchjobs", namespace.name, "digits-1", suspend)
    until_phase(backend, Phase.RUNNING)
    assert ground.starts() == 2


# a serve gang that runs


def test_a_serve_gang_whose_container_fails_again_and_again_is_failed_in_the_end(
    ground: KubeflowGround, backend: KubeflowBackend
) -> None:
    backend.launch(ground.spec("fail", mode="serve"))

    waiting = until_reason(backend, "restarting")
    assert (waiting.phase, "exit code 7" in str(waiting.detail)) == (Phase.PENDING, True)

    seen = until_reason(backend, "crash_loop")
    assert seen.phase is Phase.FAILED
    assert "exit code 7, the last of 4 times" in str(seen.detail)


def test_a_serve_gang_never_succeeds_by_an_exit_code_of_0(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    backend.launch(ground.spec("end_well", mode="serve"))

    seen = until_reason(backend, "crash_loop")

    assert seen.phase is Phase.FAILED
    assert ground.starts() >= 4
    conditions = cluster.one("pytorchjobs", namespace.name)["status"]["conditions"]
    assert "Succeeded" not in [one["type"] for one in conditions]


@pytest.mark.parametrize("how", ["deleted", "evicted"])
def test_a_pod_of_a_serve_gang_that_goes_comes_back_with_another_uid(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace, how: str
) -> None:
    backend.launch(ground.spec("stay", nodes=2, mode="serve"))
    until_phase(backend, Phase.RUNNING)
    before = [pod["metadata"]["uid"] for pod in pods(cluster, namespace)]

    if how == "deleted":
        cluster.api.delete("pods", namespace.name, "digits-1-worker-1", gracePeriodSeconds=1)
    else:
        cluster.kubelet.evict(namespace.name, "digits-1-worker-1")

    until(lambda: len(now := pods(cluster, namespace)) == 2 and now[1]["metadata"]["uid"] not in before)
    assert the(backend).phase in (Phase.PENDING, Phase.RUNNING)
    until_phase(backend, Phase.RUNNING)
    assert pods(cluster, namespace)[0]["metadata"]["uid"] == before[0]


def test_a_machine_that_is_lost_fails_the_gang_and_its_pod_is_struck_off(
    ground: KubeflowGround,
    backend: KubeflowBackend,
    cluster: Cluster,
    namespace: Namespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kubeflow_judge, "LOST_AFTER", timedelta(seconds=2))
    monkeypatch.setattr(kubeflow_leaving, "STRUCK_OFF_AFTER", timedelta(seconds=2))
    launched = backend.launch(ground.spec("stay", nodes=2, mode="serve"))
    until_phase(backend, Phase.RUNNING)
    node = cluster.kubelet.node_of(namespace.name, "digits-1-worker-1")
    cluster.kubelet.lose_node(node)
    try:
        cluster.api.delete("pods", namespace.name, "digits-1-worker-1", gracePeriodSeconds=1)  # as the taint does

        seen = until_reason(backend, "machine_lost")
        assert (seen.phase, "node 1" in str(seen.detail)) == (Phase.FAILED, True)

        until(lambda: backend.stop("digits-1", AT_ONCE) or backend.look("digits-1") is None)
        assert len(ground.left(launched.ref)) > 0  # the zombie: fenced by its incarnation
    finally:
        cluster.kubelet.find_node(node)
    until(lambda: ground.left(launched.ref) == [])


def test_a_job_that_somebody_deletes_is_failed_while_its_pods_go_and_then_gone(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    backend.launch(ground.spec("ignore_the_ask", mode="serve"))
    until_phase(backend, Phase.RUNNING)

    cluster.api.delete("pytorchjobs", namespace.name, "digits-1")

    seen = until_reason(backend, "deleted")
    assert (seen.phase, seen.gang) == (Phase.FAILED, "gng_1")
    backend.stop("digits-1", AT_ONCE)
    until(lambda: backend.look("digits-1") is None)


# a batch gang that runs


def test_a_batch_gang_that_ran_out_of_memory_says_so(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    backend.launch(ground.spec("stay", nodes=2))
    until_phase(backend, Phase.RUNNING)

    cluster.kubelet.oom_kill(namespace.name, "digits-1-worker-1")

    seen = until_phase(backend, Phase.FAILED)
    assert seen.reason == "out_of_memory"
    assert "node 1" in str(seen.detail)
    until(lambda: len(pods(cluster, namespace)) == 1)  # the job's clean-up leaves the failed one for its log
    assert the(backend).reason == "out_of_memory"


def test_an_evicted_batch_gang_is_told_in_the_words_of_the_node(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    backend.launch(ground.spec("stay"))
    until_phase(backend, Phase.RUNNING)

    cluster.kubelet.evict(namespace.name, "digits-1-worker-0")

    seen = until_phase(backend, Phase.FAILED)
    assert (seen.reason, "low on resource" in str(seen.detail)) == ("evicted", True)


# what is not ours


def test_what_another_installation_runs_is_neither_seen_nor_touched(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    backend.launch(ground.spec("stay"))
    labels = {"metadata": {"labels": {"muster/installation": "other"}}}
    cluster.api.patch("pytorchjobs", namespace.name, "digits-1", labels)
    until(lambda: all(seen.phase is Phase.PENDING or seen.name == "digits-1" for seen in backend.observe()))

    backend.stop("digits-1", AT_ONCE)

    assert cluster.one("pytorchjobs", namespace.name)["metadata"]["labels"]["muster/gang-id"] == "gng_1"
    with pytest.raises(BackendError, match="belongs to") as refusal:
        backend.launch(ground.spec("stay"))
    assert refusal.value.code == "name_taken"
    cluster.api.delete("pytorchjobs", namespace.name, "digits-1")
