"""What job and pods say about a gang, where the two do not agree or say too little."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.backends.base import Moments, Observed, Phase
from orchestrator.backends.kubeflow_judge import judge

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def job(*conditions: str, mode: str = "batch", nodes: int = 2) -> dict[str, Any]:
    told = [{"type": one, "status": "True", "message": f"it {one}"} for one in conditions]
    return {
        "metadata": {"name": "j", "uid": "u", "labels": {"muster/gang-id": "gng_1", "muster/mode": mode}},
        "spec": {"pytorchReplicaSpecs": {"Worker": {"replicas": nodes}}},
        "status": {"conditions": told},
    }


def pod(node: int, phase: str = "Running", *, mode: str = "batch", deleted: str = "", **state: Any) -> dict[str, Any]:
    labels = {"muster/gang-id": "gng_1", "muster/mode": mode, "training.kubeflow.org/replica-index": str(node)}
    states = state or ({"running": {}} if phase == "Running" else {"terminated": {"exitCode": 0}})
    status: dict[str, Any] = {"phase": phase, "containerStatuses": [{"name": "pytorch", "state": states}]}
    meta = {"name": f"j-worker-{node}", "labels": labels}
    return {"metadata": meta | ({"deletionTimestamp": deleted} if deleted else {}), "status": status}


def seen(a_job: dict[str, Any] | None, *pods: dict[str, Any], stopped: bool = False) -> Observed:
    return judge("j", a_job, pods, stopped=stopped, now=NOW)


def ended(code: int, at: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "finishedAt": at}}


def test_a_job_that_calls_itself_running_with_half_its_pods_is_pending() -> None:
    assert seen(job("Running"), pod(0)).phase is Phase.PENDING
    assert seen(job("Running"), pod(0)).nodes_running == 1
    assert seen(job("Running"), pod(0), pod(1)).phase is Phase.RUNNING


def test_failed_wins_where_a_job_says_both() -> None:
    assert seen(job("Succeeded", "Failed")).phase is Phase.FAILED


def test_a_pod_that_failed_is_believed_before_a_job_that_succeeded() -> None:
    told = seen(job("Succeeded"), pod(0, "Succeeded"), pod(1, "Failed", **ended(3)))
    assert (told.phase, told.reason) == (Phase.FAILED, "exit_code")


def test_a_batch_gang_succeeds_with_all_its_pods_and_not_before() -> None:
    assert seen(job("Running"), pod(0, "Succeeded"), pod(1)).phase is Phase.RUNNING
    assert seen(job("Running"), pod(0, "Succeeded"), pod(1, "Succeeded")).phase is Phase.SUCCEEDED
    assert seen(job("Succeeded")).phase is Phase.SUCCEEDED  # its pods were cleaned up


def test_who_was_killed_is_to_blame_before_whoever_ended_with_a_code_and_then_the_first() -> None:
    codes = (pod(0, "Failed", **ended(1, "2026-01-01T00:00:01Z")), pod(1, "Failed", **ended(1, "2026-01-01T00:00:00Z")))
    assert "node 1" in str(seen(job(), *codes).detail)
    killed = pod(2, "Failed", **ended(137, "2026-01-01T00:00:05Z"))
    told = seen(job(nodes=3), *codes, killed)
    assert (told.reason, "node 2 was killed by SIGKILL" in str(told.detail)) == ("agent_lost", True)


def test_a_pod_that_was_told_to_go_is_not_to_blame() -> None:
    going = pod(0, "Failed", deleted="2026-11-26T11:59:59Z", **ended(143))
    assert seen(job(), going, pod(1, "Failed", **ended(7))).reason == "exit_code"


def test_a_pod_that_failed_without_a_word_is_lost() -> None:
    told = seen(job(), pod(0), pod(1, "Failed", waiting=None))
    assert (told.phase, told.reason) == (Phase.FAILED, "agent_lost")


@pytest.mark.parametrize(("late", "phase"), [(10, Phase.PENDING), (31, Phase.FAILED)])
def test_a_machine_is_lost_half_a_minute_after_the_end_of_its_pod_was_due(late: int, phase: Phase) -> None:
    due = (NOW - timedelta(seconds=late)).isoformat().replace("+00:00", "Z")
    going = pod(1, mode="serve", deleted=due, waiting={"reason": "x"})
    assert seen(job(mode="serve"), pod(0, mode="serve"), going).phase is phase


def test_pods_without_their_job_are_what_somebody_deleted_or_what_we_stop() -> None:
    assert (seen(None, pod(0)).reason, seen(None, pod(0)).gang) == ("deleted", "gng_1")
    assert (seen(None, pod(0), stopped=True).reason, seen(None, pod(0), stopped=True).phase) == (
        "stopping",
        Phase.RUNNING,
    )


def test_a_false_condition_is_none() -> None:
    resumed = job("Running")
    resumed["status"]["conditions"].append({"type": "Suspended", "status": "False", "message": "resumed"})
    assert seen(resumed, pod(0)).reason == "no_pods"


def test_a_job_without_any_status_is_pending() -> None:
    bare = job()
    del bare["status"]
    assert (seen(bare).phase, seen(bare).detail) == (Phase.PENDING, "0 of 2 pods were made so far.")


MADE = datetime(2026, 11, 26, 11, 50, tzinfo=UTC)


def dated(node: int, scheduled: str | None, *, placed: str = "True", **state: Any) -> dict[str, Any]:
    """A pod as the API server shows it, with what happened when."""
    one = pod(node, "Running" if "running" in state else "Pending", **(state or {"waiting": {"reason": "X"}}))
    one["status"]["conditions"] = [{"type": "PodScheduled", "status": placed, "lastTransitionTime": scheduled}]
    return one


def made(*, nodes: int = 2) -> dict[str, Any]:
    told = job(nodes=nodes)
    told["metadata"]["creationTimestamp"] = "2026-11-26T11:50:00Z"
    return told


def running(at: str) -> dict[str, Any]:
    return {"running": {"startedAt": at}}


def test_the_last_pod_decides_when_a_gang_was_scheduled_and_started() -> None:
    first = dated(0, "2026-11-26T11:51:00Z", **running("2026-11-26T11:58:00Z"))
    last = dated(1, "2026-11-26T11:54:00Z", **running("2026-11-26T11:55:00Z"))
    moments = seen(made(), first, last).moments
    assert moments == Moments(made=MADE, scheduled=MADE.replace(minute=54), started=MADE.replace(minute=58))


def test_a_gang_is_scheduled_with_its_last_pod_and_started_with_its_last_container() -> None:
    on = dated(0, "2026-11-26T11:51:00Z", **running("2026-11-26T11:53:00Z"))
    assert seen(made()).moments == Moments(made=MADE)
    assert seen(made(), on).moments == Moments(made=MADE)
    off = dated(1, "2026-11-26T11:52:00Z", placed="False")
    assert seen(made(), on, off).moments == Moments(made=MADE)
    pulling = dated(1, "2026-11-26T11:52:00Z")
    assert seen(made(), on, pulling).moments == Moments(made=MADE, scheduled=MADE.replace(minute=52))


def test_a_container_between_two_lives_has_not_started() -> None:
    backing_off = dated(0, "2026-11-26T11:51:00Z", waiting={"reason": "CrashLoopBackOff"})
    moments = seen(made(nodes=1), backing_off).moments
    assert moments == Moments(made=MADE, scheduled=MADE.replace(minute=51))


def test_a_pod_that_goes_does_not_count_and_what_has_no_date_is_not_guessed() -> None:
    going = dated(0, "2026-11-26T11:51:00Z", **running("2026-11-26T11:53:00Z"))
    going["metadata"]["deletionTimestamp"] = "2026-11-26T12:00:30Z"
    other = dated(1, "2026-11-26T11:51:00Z", **running("2026-11-26T11:53:00Z"))
    assert seen(made(), going, other).moments == Moments(made=MADE)
    assert seen(made(nodes=1), dated(0, None, **running("2026-11-26T11:53:00Z"))).moments is None
    assert seen(job(nodes=1), other).moments is None
