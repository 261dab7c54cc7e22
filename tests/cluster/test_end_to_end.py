"""The whole way on a real Kubernetes API, with our least-privilege account: what `make test` looks at of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ground.cluster import Cluster, Namespace, until
from served import Served, served, two_nodes

from orchestrator.client import Request
from orchestrator.store.database import Database


@pytest.fixture
def service(tmp_path: Path, database: Database, cluster: Cluster, namespace: Namespace) -> Iterator[Served]:
    with served(tmp_path, database, cluster, namespace) as service:
        yield service


def gang_of(request: Request) -> str:
    assert request.placement is not None
    assert request.placement.gang is not None
    return request.placement.gang


def test_cold_warm_and_batch_requests_run_in_pytorchjobs_of_four_ranks_and_leave_nothing(
    service: Served, cluster: Cluster
) -> None:
    service.client.apply_template(two_nodes("four"))

    cold = service.run("four", {"text": "cold"})

    assert cold.succeeded, cold.error
    assert (cold.result["text"], cold.result["sum"]) == ("cold", 4)
    job = cluster.one("pytorchjobs", service.namespace)
    gang = service.client.gang(gang_of(cold))
    assert job["metadata"]["name"] == gang.name
    assert [pod["status"]["phase"] for pod in service.pods(gang)] == ["Running", "Running"]
    nodes = {rank["node"] for rank in gang.raw["ranks"]}
    assert nodes == {f"{gang.name}-worker-0", f"{gang.name}-worker-1"}
    assert gang.planned_at <= gang.scheduled_at <= gang.started_at <= gang.ready_at  # as the API server dates them
    assert list(gang.launch_seconds)[:5] == ["scheduling", "image", "start", "import", "rendezvous"]

    warm = service.run("four", {"text": "warm"})

    assert warm.succeeded, warm.error
    assert (gang_of(warm), warm.result["pids"]) == (gang.id, cold.result["pids"])

    batch = service.run("four", {"text": "batch"}, mode="batch")

    assert batch.succeeded, batch.error
    alone = service.client.gang(gang_of(batch))
    assert (alone.mode, alone.name) != (gang.mode, gang.name)
    until(lambda: service.client.gang(alone.id).state == "gone", "the batch gang is gone")
    assert service.client.gang(alone.id).raw["reason_code"] == "drained"
    until(lambda: len(service.jobs()) == 1, "its PyTorchJob is removed")
    # and when the pool is emptied nothing of ours is left: served() looks
