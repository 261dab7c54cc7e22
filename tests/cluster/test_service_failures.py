"""Failures on Kubernetes as a user of the service meets them: real ranks, one service, each test a gang of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from acceptance.stage import processes
from ground.api import Refused
from ground.cluster import Cluster, until
from served import Served, served, two_nodes

from orchestrator.backends.kubeflow_names import JOB_NAME
from orchestrator.client import Gang, Request
from orchestrator.store.database import Database

pytestmark = pytest.mark.cluster

SLOW = {"sleep_s": 4, "steps": 40}
LONG = {"sleep_s": 300, "steps": 3000}
PATIENT = timedelta(seconds=120)
OUTAGE_S = float(os.environ.get("MUSTER_OUTAGE_S", "12"))
"""Of each kind. 12 s are twice the lease of these services (6 s), as 60 s are of the 30 s in life."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, shared_database: Database, cluster: Cluster) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("served")
    with served(folder, shared_database, cluster, cluster.namespace()) as service:
        service.client.apply_template(two_nodes("pair", ranks=1))
        yield service


@pytest.fixture
def gang(service: Served) -> Gang:
    """An idle gang of two nodes."""
    if not service.gangs("pair"):
        assert service.done(service.client.submit("pair", {}).id, within=PATIENT).succeeded
    return until(lambda: _idle(service), "a gang is idle", 120)


def _idle(service: Served) -> Gang | None:
    return next((one for one in service.gangs("pair") if one.state == "idle"), None)


def pod_uids(service: Served, gang: Gang) -> list[str]:
    return [pod["metadata"]["uid"] for pod in service.pods(gang)]


def gang_of(request: Request) -> str:
    assert request.placement is not None
    assert request.placement.gang is not None
    return request.placement.gang


def test_a_pod_deleted_under_a_request_is_replaced_and_the_request_runs_again(
    service: Served, cluster: Cluster, gang: Gang
) -> None:
    before = pod_uids(service, gang)
    request = service.client.submit("pair", SLOW)
    service.running(request.id, past_step=5)

    cluster.api.delete("pods", service.namespace, f"{gang.name}-worker-1", gracePeriodSeconds=1)

    done = service.done(request.id, within=PATIENT)
    assert done.succeeded, done.error
    assert len(done.raw["losses"]) >= 1
    for one in service.gangs("pair"):
        if one.id == gang.id:  # whole again with a new pod, or replaced
            assert pod_uids(service, gang)[1] not in before
            assert one.incarnation > gang.incarnation


def test_an_agent_that_is_killed_is_restarted_in_place_and_the_request_runs_again(
    service: Served, cluster: Cluster, gang: Gang
) -> None:
    request = service.client.submit("pair", SLOW)
    service.running(request.id, past_step=5)

    for pod in service.pods(gang)[:1]:
        cluster.kubelet.oom_kill(service.namespace, pod["metadata"]["name"])

    done = service.done(request.id, within=PATIENT)
    assert done.succeeded, done.error


def test_a_rank_that_is_killed_comes_back_in_the_same_pods(service: Served, gang: Gang) -> None:
    before = pod_uids(service, gang)
    request = service.client.submit("pair", SLOW)
    service.running(request.id, past_step=5)

    processes.ranks(gang.id)[1].kill()

    done = service.done(request.id, within=PATIENT)
    assert done.succeeded, done.error
    assert gang_of(done) == gang.id
    assert service.client.gang(gang.id).incarnation > gang.incarnation
    assert pod_uids(service, gang) == before


def test_a_gang_that_lost_a_machine_is_replaced_and_what_lives_on_there_may_do_nothing(
    service: Served, cluster: Cluster, gang: Gang
) -> None:
    """The machine is cut off from Kubernetes alone: its ranks live on, and reach the service."""
    node = cluster.kubelet.node_of(service.namespace, f"{gang.name}-worker-1")
    cluster.kubelet.lose_node(node)
    try:
        cluster.api.delete("pods", service.namespace, f"{gang.name}-worker-1", gracePeriodSeconds=1)
        until(lambda: service.client.gang(gang.id).state == "gone", "the gang is given up", 90)
        assert "does not confirm the end of its pod" in str(service.client.gang(gang.id).raw["reason"])

        done = service.done(service.client.submit("pair", {}).id, within=PATIENT)

        assert done.succeeded, done.error
        assert gang_of(done) != gang.id
        until(lambda: not processes.ranks(gang.id), "its ranks were told that it is over", 60)
    finally:
        cluster.kubelet.find_node(node)


def test_a_job_that_somebody_deletes_is_replaced_and_its_request_runs_elsewhere(
    service: Served, cluster: Cluster, gang: Gang
) -> None:
    request = service.client.submit("pair", SLOW)
    service.running(request.id, past_step=5)

    cluster.api.delete("pytorchjobs", service.namespace, gang.name)

    done = service.done(request.id, within=PATIENT)
    assert done.succeeded, done.error
    assert gang_of(done) != gang.id
    until(lambda: service.client.gang(gang.id).state == "gone", "the gang is gone")


def test_a_rank_that_hangs_is_named_with_its_pod_and_the_gang_comes_back(service: Served) -> None:
    """The operator and Kubernetes see nothing at all of it."""
    service.client.apply_template(two_nodes("stuck", ranks=1, limits={"no_progress_s": 5}, retry={"max_attempts": 1}))
    request = service.client.submit("stuck", {"steps": 5, "hooks": {"hang_on_rank": 1, "at_step": 2}})

    ended = service.done(request.id, within=PATIENT)

    assert ended.error is not None
    gang = service.client.gang(gang_of(ended))
    assert (ended.error.code, ended.error.rank) == ("no_progress", 1)
    assert ended.error.node in {pod["metadata"]["name"] for pod in service.pods(gang)}
    assert service.done(service.client.submit("stuck", {}).id, within=PATIENT).succeeded


def test_a_result_stays_whatever_becomes_of_its_job(service: Served, cluster: Cluster) -> None:
    """Failed after the result was recorded, then removed, as its time to live would."""
    request = service.client.submit("pair", {}, mode="batch")
    done = service.done(request.id, within=PATIENT)
    gang = service.client.gang(gang_of(done))
    says = {"type": "Failed", "status": "True", "reason": "ATest", "message": "says so"}
    with suppress(Refused):  # it may be gone already: its gang has nothing left to do
        cluster.api.patch("pytorchjobs", service.namespace, gang.name, {"status": {"conditions": [says]}}, "/status")
        cluster.api.delete("pytorchjobs", service.namespace, gang.name)

    until(lambda: service.client.gang(gang.id).state == "gone", "the gang is gone", 60)

    after = service.client.get(request.id)
    assert after.succeeded and after.attempt == 1 and after.raw["result"] == done.raw["result"]
    assert not service.client.get(request.id).raw["losses"]


def test_a_canceled_batch_request_takes_its_job_with_it(service: Served, cluster: Cluster) -> None:
    request = service.client.submit("pair", LONG, mode="batch")
    service.running(request.id)
    gang = service.client.gang(gang_of(service.client.get(request.id)))

    service.client.cancel(request.id)

    assert service.done(request.id, within=PATIENT).status == "canceled"
    until(lambda: cluster.api.get("pytorchjobs", service.namespace, gang.name) is None, "its job is gone", 60)


def test_a_batch_gang_out_of_memory_is_told_and_its_request_gets_another_job(service: Served, cluster: Cluster) -> None:
    request = service.client.submit("pair", SLOW, mode="batch")
    service.running(request.id, past_step=5)
    gang = service.client.gang(gang_of(service.client.get(request.id)))

    cluster.kubelet.oom_kill(service.namespace, f"{gang.name}-worker-1")

    done = service.done(request.id, within=PATIENT)
    assert done.succeeded, done.error
    assert gang_of(done) != gang.id
    assert service.client.gang(gang.id).state == "gone"


def test_a_job_that_succeeds_without_a_result_is_no_success(service: Served, cluster: Cluster) -> None:
    request = service.client.submit("pair", SLOW, mode="batch")
    service.running(request.id, past_step=5)
    gang = service.client.gang(gang_of(service.client.get(request.id)))

    says = {"type": "Succeeded", "status": "True", "reason": "ATest", "message": "says so"}
    status = {"status": {"conditions": [says]}}
    cluster.api.patch("pytorchjobs", service.namespace, gang.name, status, "/status")

    done = service.done(request.id, within=PATIENT)
    assert done.succeeded, done.error
    assert gang_of(done) != gang.id


def test_a_warm_gang_that_is_suspended_says_so_and_serves_again_when_it_is_resumed(
    service: Served, cluster: Cluster, gang: Gang
) -> None:
    suspend = {"spec": {"runPolicy": {"suspend": True}}}
    cluster.api.patch("pytorchjobs", service.namespace, gang.name, suspend)
    until(lambda: not service.pods(gang), "its pods are gone", 60)
    request = service.client.submit("pair", {})
    until(lambda: "suspended" in str(service.client.explain_gang(gang.id)), "the gang says that it is suspended", 60)
    assert not service.client.get(request.id).is_terminal

    suspend["spec"]["runPolicy"]["suspend"] = False
    cluster.api.patch("pytorchjobs", service.namespace, gang.name, suspend)

    done = service.done(request.id, within=PATIENT)
    assert done.succeeded, done.error
    assert gang_of(done) == gang.id


def test_why_a_start_fails_is_shown_while_it_waits_and_after_it_gave_up(service: Served) -> None:
    service.client.apply_template(
        two_nodes("greedy", pod={"resources": {"gpus": 9}}, limits={"start_timeout_s": 8}, retry={"max_attempts": 1})
    )
    request = service.client.submit("greedy", {})

    def shown() -> bool:
        return "Insufficient nvidia.com/gpu" in str(service.client.explain(request.id))

    until(shown, "the reason is shown while the gang waits", 60)
    until(
        lambda: "Insufficient nvidia.com/gpu" in str(service.client.get(request.id).raw.get("waiting")),
        "the reason is shown after the gang gave up",
        60,
    )
    service.client.cancel(request.id)
    until(lambda: not _jobs_of(service, "greedy"), "its half-started gangs are removed", 60)


def _jobs_of(service: Served, template: str) -> list[str]:
    return [
        str(job["metadata"]["name"])
        for job in service.jobs()
        if job["metadata"]["labels"]["muster/template"] == template and job["metadata"]["labels"].get(JOB_NAME) is None
    ]


def test_while_the_api_server_is_away_warm_requests_are_served_and_launches_wait_for_it(
    service: Served, cluster: Cluster, gang: Gang
) -> None:
    """First it hangs, then it is dead, each for two leases."""
    cluster.plane.freeze_apiserver()
    try:
        fresh = service.client.submit("pair", {"text": "fresh"}, mode="batch")
        _served_all_the_time(service, gang)
    finally:
        cluster.plane.thaw_apiserver()
        cluster.plane.kill_apiserver()
    try:
        _served_all_the_time(service, gang)
        assert not service.client.get(fresh.id).is_terminal
    finally:
        cluster.plane.start_apiserver()

    done = service.done(fresh.id, within=PATIENT)

    assert done.succeeded, done.error
    assert service.client.gang(gang.id).incarnation == gang.incarnation


def _served_all_the_time(service: Served, gang: Gang) -> None:
    end = time.monotonic() + OUTAGE_S
    while time.monotonic() < end:
        warm = service.run("pair", {"sleep_s": 0.5, "steps": 5}, mode="warm")
        assert warm.succeeded, warm.error
        assert gang_of(warm) == gang.id
