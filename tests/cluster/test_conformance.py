"""What every backend promises, held to the Kubeflow backend on a real API server: the tests of tests/contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from behaving import KubeflowGround
from contract.test_backend_conformance import *  # noqa: F403 (its tests run here over another ground)
from contract.test_backend_conformance import Ground, cleared, until
from ground.cluster import Cluster, Namespace

pytestmark = pytest.mark.cluster


@pytest.fixture
def ground(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> Iterator[Ground]:
    yield from cleared(KubeflowGround(tmp_path, namespace))
    until(lambda: not cluster.ours(namespace.name))
