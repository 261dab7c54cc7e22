"""One cluster for all cluster tests of a run. Where its programs are not at hand the tests are skipped, and the run
says so in the end (tests/conftest.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from behaving import KubeflowGround
from contract.test_backend_conformance import cleared, until
from ground import binaries
from ground.cluster import Cluster, Namespace


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd, an API server, controllers, and the stand-ins for operator and kubelets."""
    if lacking := binaries.missing():
        pytest.skip(binaries.remedy(lacking))
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def namespace(cluster: Cluster) -> Namespace:
    """One of its own for each test, with our ServiceAccount and exactly our Role."""
    return cluster.namespace()


@pytest.fixture
def ground(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> Iterator[KubeflowGround]:
    """Gangs of shell scripts in the namespace, of which no object is left afterwards."""
    yield from cleared(KubeflowGround(tmp_path, namespace))
    until(lambda: not cluster.ours(namespace.name))
