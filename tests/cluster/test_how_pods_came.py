"""When the pods of a gang came, as a real API server dates it: no machine, an image on its way, started, made anew."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from behaving import KubeflowGround
from contract.test_backend_conformance import the, until, until_phase
from ground.cluster import Cluster, Namespace
from served import served, two_nodes

from orchestrator.backends.base import Moments, Phase
from orchestrator.backends.kubeflow import KubeflowBackend
from orchestrator.store.database import Database

pytestmark = pytest.mark.cluster

LARGE = "registry.example/large:1"


@pytest.fixture
def backend(ground: KubeflowGround) -> Iterator[KubeflowBackend]:
    backend = ground.open()
    yield backend
    backend.close()


@pytest.fixture
def full(cluster: Cluster) -> Iterator[None]:
    """No node has a GPU to give, until set_gpus()."""
    cluster.kubelet.set_gpus(0)
    yield
    cluster.kubelet.set_gpus(8)


def moments(backend: KubeflowBackend) -> Moments:
    seen = the(backend).moments
    assert seen is not None
    return seen


def dated(cluster: Cluster, namespace: Namespace) -> tuple[datetime, datetime, datetime]:
    """Made, scheduled, started, as the objects say it now."""
    pods = cluster.api.list("pods", namespace.name)
    placed = [one for pod in pods for one in pod["status"]["conditions"] if one["type"] == "PodScheduled"]
    running = [pod["status"]["containerStatuses"][0]["state"]["running"] for pod in pods]
    return (
        _at(cluster.one("pytorchjobs", namespace.name)["metadata"]["creationTimestamp"]),
        max(_at(one["lastTransitionTime"]) for one in placed),
        max(_at(one["startedAt"]) for one in running),
    )


def _at(said: str) -> datetime:
    return datetime.fromisoformat(said)


def test_a_gang_waits_for_machines_then_for_its_image_then_it_starts(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace, full: None
) -> None:
    backend.launch(ground.spec("stay", nodes=2, image=LARGE, resources={"gpus": 8}))

    until(lambda: the(backend).reason == "unschedulable")
    assert "Insufficient nvidia.com/gpu" in str(the(backend).detail)
    assert (moments(backend).scheduled, moments(backend).started) == (None, None)

    cluster.kubelet.set_gpus(8)
    until(lambda: the(backend).reason == "pulling")
    assert the(backend).detail == f'node 0: Pulling image "{LARGE}"'
    assert moments(backend).scheduled is not None
    cluster.kubelet.finish_pull(namespace.name, "digits-1-worker-0")
    until(lambda: the(backend).nodes_running == 1)
    assert moments(backend).started is None

    cluster.kubelet.finish_pull(namespace.name, "digits-1-worker-1")
    until_phase(backend, Phase.RUNNING)
    made, scheduled, started = dated(cluster, namespace)
    assert (moments(backend).made, moments(backend).scheduled, moments(backend).started) == (made, scheduled, started)
    assert made <= scheduled <= started
    assert str(moments(backend).word).endswith(": pulled in 2m3.5s, 30.1 GB")


def test_a_pod_that_is_made_anew_is_scheduled_anew(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    backend.launch(ground.spec("stay", nodes=2, mode="serve", image=LARGE))
    for node in range(2):
        until(lambda node=node: _is_pulling(cluster, namespace, f"digits-1-worker-{node}"))  # type: ignore[misc]
        cluster.kubelet.finish_pull(namespace.name, f"digits-1-worker-{node}")
    until_phase(backend, Phase.RUNNING)
    first = moments(backend)

    cluster.api.delete("pods", namespace.name, "digits-1-worker-1", gracePeriodSeconds=1)

    again = until(lambda: (one := moments(backend)).scheduled and one.started is None and one)
    assert again.scheduled >= first.scheduled
    cluster.kubelet.finish_pull(namespace.name, "digits-1-worker-1")
    until_phase(backend, Phase.RUNNING)
    assert (moments(backend).made, moments(backend).scheduled, moments(backend).started) == dated(cluster, namespace)


def _is_pulling(cluster: Cluster, namespace: Namespace, name: str) -> Any:
    pod = cluster.api.get("pods", namespace.name, name)
    return pod is not None and pod["status"].get("containerStatuses")


def test_a_user_sees_where_a_cold_start_is_and_in_the_end_where_its_time_went(
    tmp_path: Path, database: Database, cluster: Cluster, namespace: Namespace, full: None
) -> None:
    with served(tmp_path, database, cluster, namespace) as service:
        wants = {"resources": {"gpus": 8}}
        service.client.apply_template({**two_nodes("pair", ranks=1), "image": LARGE, "pod": wants})
        request = service.client.submit("pair", {"text": "cold"}).id

        def waits_for() -> str:
            return str(service.client.get(request).waiting)

        until(lambda: "cold start: scheduling" in waits_for() and "Insufficient nvidia.com/gpu" in waits_for())
        cluster.kubelet.set_gpus(8)
        until(lambda: "cold start: image" in waits_for() and f'Pulling image "{LARGE}"' in waits_for())
        (gang,) = service.gangs("pair")
        for pod in service.pods(gang):
            cluster.kubelet.finish_pull(service.namespace, pod["metadata"]["name"])

        done = service.done(request)
        assert done.succeeded, done.error
        came = service.client.gang(gang.id)
        assert list(came.launch_seconds or {})[:5] == ["scheduling", "image", "start", "import", "rendezvous"]
        assert came.launch_seconds is not None
        assert came.launch_seconds["scheduling"] > 0
        assert came.launch_seconds["image"] > 0
        assert came.planned_at <= came.scheduled_at <= came.started_at <= came.ready_at  # type: ignore[operator]
