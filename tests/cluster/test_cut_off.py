"""A replica that cannot hear the API server: what it claims meanwhile, and that it knows the truth soon after."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from behaving import Behaving, KubeflowGround
from contract.test_backend_conformance import AT_ONCE, the, until
from ground.cable import Cable
from ground.cluster import Cluster, Namespace

from orchestrator.backends import kubeflow_wall
from orchestrator.backends.base import Phase
from orchestrator.backends.kubeflow import KubeflowBackend
from orchestrator.backends.kubeflow_wall import Kube
from orchestrator.errors import BackendError

pytestmark = pytest.mark.cluster

RESYNC = timedelta(seconds=4)
"""Of the replica behind the cable; 60 s in life."""


@pytest.fixture
def cable(cluster: Cluster) -> Iterator[Cable]:
    with Cable(cluster.plane.port) as cable:
        yield cable


@pytest.fixture
def far(cluster: Cluster, namespace: Namespace, cable: Cable) -> Iterator[KubeflowBackend]:
    """A replica behind the cable."""
    backend = KubeflowBackend(
        Behaving(namespace=namespace.name, installation="muster"),
        namespace=namespace.name,
        installation="muster",
        kube=Kube(cluster.plane.kubeconfig(f"{namespace.name}-far", namespace.token, url=cable.url)),
        resync=RESYNC,
    )
    yield backend
    backend.close()


@pytest.fixture
def near(ground: KubeflowGround) -> Iterator[KubeflowBackend]:
    """A replica that hears everything."""
    backend = ground.open()
    yield backend
    backend.close()


def names(backend: KubeflowBackend) -> list[str] | None:
    """What it holds; None if it says that it does not know."""
    try:
        return [seen.name for seen in backend.observe()]
    except BackendError:
        return None


def test_a_replica_whose_watch_was_cut_claims_nothing_and_knows_the_truth_when_it_is_back(
    ground: KubeflowGround, near: KubeflowBackend, far: KubeflowBackend, cable: Cable
) -> None:
    for number in (1, 2):
        near.launch(ground.spec("stay", name=f"digits-{number}", gang=f"gng_{number}"))
    until(lambda: names(far) == ["digits-1", "digits-2"])

    cable.cut()

    until(lambda: names(far) is None)
    near.stop("digits-1", AT_ONCE)
    near.launch(ground.spec("stay", name="digits-3", gang="gng_3"))
    until(lambda: names(near) == ["digits-2", "digits-3"])
    assert names(far) is None
    with pytest.raises(BackendError):
        far.look("digits-2")
    cable.mend()
    until(lambda: names(far) == ["digits-2", "digits-3"])
    until(lambda: the(far, "digits-3").phase is Phase.RUNNING)


def test_a_replica_whose_version_the_server_forgot_lists_anew(
    ground: KubeflowGround, near: KubeflowBackend, far: KubeflowBackend, cable: Cable, cluster: Cluster
) -> None:
    near.launch(ground.spec("stay", name="digits-1", gang="gng_1"))
    until(lambda: names(far) == ["digits-1"])
    cable.cut()
    near.stop("digits-1", AT_ONCE)
    near.launch(ground.spec("stay", name="digits-2", gang="gng_2"))
    until(lambda: names(near) == ["digits-2"])

    cluster.plane.compact()
    cluster.plane.kill_apiserver()  # its own memory of what changed goes with it
    cluster.plane.start_apiserver()
    cable.mend()

    until(lambda: names(far) == ["digits-2"])
    until(lambda: names(near) == ["digits-2"])


def test_a_replica_whose_watch_went_quiet_knows_the_truth_within_a_resync(
    ground: KubeflowGround,
    near: KubeflowBackend,
    far: KubeflowBackend,
    cable: Cable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kubeflow_wall, "_WATCH_SLACK_S", 1.0)
    monkeypatch.setattr(kubeflow_wall, "READ_S", 1.0)
    near.launch(ground.spec("stay", name="digits-1", gang="gng_1"))
    until(lambda: names(far) == ["digits-1"])
    cable.swallow()
    near.stop("digits-1", AT_ONCE)
    until(lambda: names(near) == [])

    until(lambda: names(far) is None, 3 * RESYNC)  # it noticed, and does not go on with what it held
    cable.cut()
    cable.mend()

    until(lambda: names(far) == [])
