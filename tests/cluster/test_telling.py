"""What `kubectl describe pytorchjob` shows of a gang: annotations and events, seldom written and never doubled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from behaving import KubeflowGround
from contract.test_backend_conformance import until
from ground.cluster import Cluster, Namespace

from orchestrator.backends import kubeflow_telling
from orchestrator.backends.base import Story
from orchestrator.backends.kubeflow import KubeflowBackend
from orchestrator.backends.kubeflow_wall import Kube

pytestmark = pytest.mark.cluster

IDLE = Story(gang="gng_1", name="digits-1", state="idle", incarnation=1)


@pytest.fixture
def backend(ground: KubeflowGround) -> Iterator[KubeflowBackend]:
    backend = ground.open()
    backend.launch(ground.spec("stay", mode="serve"))
    backend.observe()
    yield backend
    backend.close()


def annotations(cluster: Cluster, namespace: Namespace) -> dict[str, str]:
    found: dict[str, str] = cluster.one("pytorchjobs", namespace.name)["metadata"]["annotations"]
    return {key: value for key, value in found.items() if key in ("muster/state", "muster/request", "muster/served")}


def events(cluster: Cluster, namespace: Namespace) -> list[dict[str, Any]]:
    uid = cluster.one("pytorchjobs", namespace.name)["metadata"]["uid"]
    found = cluster.api.list("events", namespace.name, fieldSelector=f"involvedObject.uid={uid}")
    ours = [event for event in found if event["source"].get("component") == "muster"]
    return sorted(ours, key=lambda event: int(event["metadata"]["resourceVersion"]))


def test_annotations_say_what_a_gang_does_now(
    backend: KubeflowBackend, cluster: Cluster, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeflow_telling, "FIGURES_EVERY_S", 0.0)
    backend.tell(IDLE)
    assert annotations(cluster, namespace) == {"muster/state": "idle", "muster/served": "0"}

    backend.tell(replace(IDLE, state="busy", serving="req_1", served=3))

    assert annotations(cluster, namespace) == {
        "muster/state": "busy",
        "muster/request": "req_1",
        "muster/served": "3",
    }
    backend.tell(replace(IDLE, served=4))
    assert annotations(cluster, namespace) == {"muster/state": "idle", "muster/served": "4"}


def test_events_say_what_happened_once_whoever_tells_it(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    other = ground.open()
    stories = [
        replace(IDLE, state="launching", incarnation=0),
        replace(IDLE, state="loading"),
        IDLE,
        replace(IDLE, state="busy"),
        replace(IDLE, state="gone", why="rank 3 was lost", went_wrong=True),
    ]
    for story in stories:
        for teller in (backend, other):
            teller.tell(story)
            time.sleep(0.3)  # as far apart as the bound on writes wants
    other.close()

    told = [(event["type"], event["reason"]) for event in events(cluster, namespace)]
    assert told == [
        ("Normal", "GangLaunched"),
        ("Normal", "GangLoading"),
        ("Normal", "GangReady"),
        ("Warning", "GangEnded"),
    ]
    assert "rank 3 was lost" in events(cluster, namespace)[-1]["message"]


def test_what_is_shown_already_costs_no_call_and_figures_wait(
    backend: KubeflowBackend, cluster: Cluster, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.tell(IDLE)
    called: list[str] = []
    call = Kube.call

    def counted(self: Kube, method: str, *rest: Any, **more: Any) -> Any:
        called.append(method)
        return call(self, method, *rest, **more)

    monkeypatch.setattr(Kube, "call", counted)
    for served in range(100):
        backend.tell(replace(IDLE, state="busy", serving=f"req_{served}", served=served))

    assert called == []
    assert annotations(cluster, namespace)["muster/state"] == "idle"


def test_nobody_is_held_up_by_what_cannot_be_told(
    backend: KubeflowBackend, cluster: Cluster, namespace: Namespace
) -> None:
    backend.tell(replace(IDLE, name="never-was"))
    cluster.plane.kill_apiserver()
    try:
        until(lambda: backend.tell(replace(IDLE, state="draining")) is None)
    finally:
        cluster.plane.start_apiserver()
