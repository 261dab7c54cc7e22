"""A service for each file of tests, and the promises, checked after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stage import Stage, Up


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`muster up`, with quick leases; ends with all that belongs to it."""
    up = Up(tmp_path_factory.mktemp("up"))
    try:
        up.start()
        yield up
    finally:
        up.close()
    assert up.leftovers() == []


@pytest.fixture(autouse=True)
def promises(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every promise holds after every test. The service's last words are shown with a failure."""
    stages: list[Stage] = [request.getfixturevalue(name) for name in ("up",) if name in request.fixturenames]
    yield
    for stage in stages:
        for log in sorted(stage.home.glob("*.log")):
            print(f"--- the end of {log.name}\n" + "\n".join(log.read_text().splitlines()[-40:]))
        assert stage.violations() == []
