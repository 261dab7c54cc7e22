"""A template is shown to the API server before it is stored: what that would refuse is told to who registers it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from behaving import KubeflowGround
from contract.test_backend_conformance import until
from ground.cluster import Cluster, Namespace
from ground.webhook import webhook

from orchestrator.backends.kubeflow import KubeflowBackend
from orchestrator.domain.template import Template
from orchestrator.errors import BackendError, Invalid
from orchestrator.place import rehearse
from orchestrator.settings import Settings

pytestmark = pytest.mark.cluster


@pytest.fixture
def ground(namespace: Namespace, tmp_path: Path) -> KubeflowGround:
    return KubeflowGround(tmp_path, namespace)


@pytest.fixture
def backend(ground: KubeflowGround, tmp_path: Path) -> Iterator[KubeflowBackend]:
    backend = ground.open()
    yield backend
    backend.close()


def registers(backend: KubeflowBackend, ground: KubeflowGround, tmp_path: Path) -> bool:
    template = Template.model_validate(dict(ground.spec("stay").template))
    try:
        rehearse(backend, Settings(folder=tmp_path, api_urls=("http://x",)), template)
    except Invalid:
        return False
    return True


def test_what_the_webhook_denies_is_refused_when_it_is_registered(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace, tmp_path: Path
) -> None:
    assert registers(backend, ground, tmp_path)
    with webhook(cluster.api, tmp_path, namespace.name):
        until(lambda: not registers(backend, ground, tmp_path))
        with pytest.raises(BackendError, match="a test says so") as refusal:
            backend.rehearse(ground.spec("stay"))
        assert refusal.value.code == "rejected"
    assert cluster.api.list("pytorchjobs", namespace.name) == []


def test_a_server_that_cannot_say_stands_in_nobodys_way(
    ground: KubeflowGround, backend: KubeflowBackend, cluster: Cluster, namespace: Namespace, tmp_path: Path
) -> None:
    with webhook(cluster.api, tmp_path, namespace.name, away=True):

        def away() -> bool:
            try:
                backend.rehearse(ground.spec("stay"))
            except BackendError as error:
                return error.code == "operator_away"
            return False

        until(away)
        assert registers(backend, ground, tmp_path)
