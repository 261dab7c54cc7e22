"""Two namespaces on a real API server and one service, whose users come through Kubeflow's gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import gateway_house
import pytest
import rights
from gateway_house import House
from ground.cluster import Cluster, Namespace, until

from orchestrator.errors import BackendError
from orchestrator.place import reviews_of
from orchestrator.settings import Settings
from orchestrator.store.database import Database


@dataclass
class Town:
    """Two namespaces, one service."""

    cluster: Cluster
    a: str
    b: str
    house: House

    def user(self) -> str:
        """Somebody new."""
        return f"{uuid4().hex[:8]}@example.org"


@pytest.fixture(scope="module")
def town(cluster: Cluster, shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    home, other = cluster.namespace(), cluster.namespace()
    settings = Settings(
        folder=tmp_path_factory.mktemp("town"),
        backend="kubeflow",
        kubeconfig=home.kubeconfig,
        namespace=home.name,
        gateway_namespaces=(home.name, other.name),
    )
    with ExitStack() as stack:
        stack.enter_context(rights.may_ask(cluster, home))
        until(lambda: _may_ask(home), "our right to ask is known")
        house = stack.enter_context(gateway_house.opened(shared_database, None, settings))
        yield Town(cluster=cluster, a=home.name, b=other.name, house=house)


def _may_ask(namespace: Namespace) -> bool:
    try:
        return (
            reviews_of(Settings(folder=namespace.kubeconfig.parent, kubeconfig=namespace.kubeconfig, gateway_port=0))
            is not None
        )
    except BackendError:
        return False
