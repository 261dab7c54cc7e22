"""What these tests share: a replica and who calls it; of webhooks, a receiver on loopback and who may send to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from receiver import Receiver, receiver
from replica import Replica, replica
from webhook_house import House, house

from orchestrator.store.database import Database


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """One for the whole module, with the default settings; a module that wants others has its own."""
    with replica(shared_database, tmp_path_factory.mktemp("replica")) as running:
        yield running


@pytest.fixture
def caller(here: Replica) -> Iterator[httpx.Client]:
    """Somebody of a tenant of its own, with the template `echo`."""
    with here.caller() as client:
        assert client.put("/v1/templates/echo", json={"handler": "samples.echo:Echo"}).status_code == 200
        yield client


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def sending(database: Database, tmp_path: Path, there: Receiver) -> Iterator[House]:
    with house(database, tmp_path, there.origin) as built:
        yield built
