"""What events say of a gang on its way: an image that comes, one that came, and what stands in its way since."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from orchestrator.backends import kubeflow_events
from orchestrator.backends.base import Moments, Observed, Phase
from orchestrator.backends.kubeflow_events import Obstacles
from orchestrator.backends.kubeflow_wall import Kube

JOB: dict[str, Any] = {
    "metadata": {"name": "j", "uid": "job-1"},
    "spec": {"pytorchReplicaSpecs": {"Worker": {"replicas": 1}}},
    "status": {"conditions": []},
}
ON_ITS_WAY = Observed(gang="gng_1", name="j", phase=Phase.PENDING)


class Cluster:
    """Answers with the events that a test wrote; counts the questions."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events, self.asked = list(events), 0

    def call(self, method: str, path: str, body: Any = None, query: Any = None) -> dict[str, Any]:
        self.asked += 1
        return {"items": self.events}


def event(reason: str, second: int, message: str = "") -> dict[str, Any]:
    return {"reason": reason, "message": message, "lastTimestamp": f"2026-11-26T12:00:{second:02}Z"}


def pod(**state: Any) -> dict[str, Any]:
    labels = {"training.kubeflow.org/replica-index": "0"}
    status = {"phase": "Pending", "containerStatuses": [{"name": "pytorch", "state": state}]}
    return {"metadata": {"name": "j-worker-0", "uid": "pod-1", "labels": labels}, "status": status}


CREATING = pod(waiting={"reason": "ContainerCreating"})
RUNS = pod(running={"startedAt": "2026-11-26T12:05:00Z"})


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeflow_events, "FIRST_ASKED_AFTER_S", -1.0)
    monkeypatch.setattr(kubeflow_events, "ASKED_AGAIN_AFTER_S", -1.0)


def obstacles(cluster: Cluster) -> Obstacles:
    return Obstacles(cast("Kube", cluster), "team-a")


def started(minute: int = 5) -> Observed:
    moments = Moments(
        made=datetime(2026, 11, 26, 12, tzinfo=UTC), started=datetime(2026, 11, 26, 12, minute, tzinfo=UTC)
    )
    return Observed(gang="gng_1", name="j", phase=Phase.RUNNING, moments=moments)


@pytest.mark.parametrize(
    ("events", "reason", "detail"),
    [
        ([], None, None),
        ([event("Pulling", 1, 'Pulling image "wan"')], "pulling", 'node 0: Pulling image "wan"'),
        ([event("Pulled", 1), event("Pulling", 1)], None, None),
        ([event("FailedMount", 1, "no claim"), event("Pulling", 2, "it comes")], "pulling", "node 0: it comes"),
        ([event("Pulling", 1), event("FailedMount", 2, "no claim")], "mount", "node 0: FailedMount: no claim"),
    ],
    ids=["nothing", "comes", "came_in_that_second", "mounted_since", "mount_fails_since"],
)
def test_the_last_word_on_a_pod_that_is_made_counts(
    events: list[dict[str, Any]], reason: str | None, detail: str | None
) -> None:
    seen = obstacles(Cluster(*events)).explain(ON_ITS_WAY, JOB, [CREATING])
    assert (seen.reason, seen.detail) == (reason, detail)


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ('Successfully pulled image "wan" in 1m3.5s (2m3.5s including waiting). Image size: 30123456789 bytes.',
         "pulled in 1m3.5s, 30.1 GB"),
        ('Successfully pulled image "in 5 steps" in 940.5ms', "pulled in 940.5ms"),
        ('Successfully pulled image "busybox"', 'Successfully pulled image "busybox"'),
        ('Container image "wan" already present on machine', "the image was there"),
    ],
    ids=["with_size", "without", "of_long_ago", "there"],
)  # fmt: skip
def test_what_a_kubelet_said_of_the_image_is_told_in_short(message: str, word: str) -> None:
    cluster = Cluster(event("Pulled", 9, message))
    known = obstacles(cluster)
    known.explain(ON_ITS_WAY, JOB, [CREATING])
    seen = known.recall(started(), JOB, [RUNS])
    assert seen.moments is not None
    assert seen.moments.word == f"node 0: {word}"


def test_the_image_of_a_gang_that_runs_is_asked_for_once_and_never_of_one_that_ran_before_we_came() -> None:
    cluster = Cluster(event("Pulled", 9, "already present"))
    known = obstacles(cluster)
    assert known.recall(started(), JOB, [RUNS]) == started()
    assert cluster.asked == 0
    known.explain(ON_ITS_WAY, JOB, [CREATING])
    asked = cluster.asked
    first = known.recall(started(), JOB, [RUNS])
    assert (known.recall(started(), JOB, [RUNS]), cluster.asked) == (first, asked + 1)
    known.recall(started(minute=6), JOB, [RUNS])
    assert cluster.asked == asked + 2
