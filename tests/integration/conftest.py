"""What the tests of webhooks share: a receiver on loopback, and one replica's sender that may reach it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from receiver import Receiver, receiver
from webhook_house import House, house

from orchestrator.store.database import Database


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def sending(database: Database, tmp_path: Path, there: Receiver) -> Iterator[House]:
    with house(database, tmp_path, there.origin) as built:
        yield built
