"""The services of the tests, and the promises, checked after each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import workers
from stage import PATIENT, QUAD, Replicas, Stage, Up, echo, running

STAGES = ("service", "up", "replicas")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`muster up` for all tests that do not kill it, with a warm gang of four ranks, and one that idles on."""
    with running(Up(tmp_path_factory.mktemp("service"))) as up:
        up.client.apply_template(echo(PATIENT, ranks=2, min=1, limits={"data_timeout_s": 5}))
        up.client.apply_template(echo(QUAD, ranks=4, min=1, limits={"data_timeout_s": 2}))
        yield up


@pytest.fixture(scope="module")
def up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`muster up` for one file of tests, which may kill it; SETTINGS of the file are environment variables."""
    settings = getattr(request.module, "SETTINGS", {})
    with running(Up(tmp_path_factory.mktemp("up"), **settings)) as up:
        yield up


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """Two `muster serve` over one Postgres."""
    with running(Replicas(tmp_path_factory.mktemp("replicas"))) as replicas:
        yield replicas


@pytest.fixture(autouse=True)
def promises(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every promise holds after every test. What the services said last is shown with a failure."""
    assert "service" not in request.fixturenames or request.node.nodeid.partition("::")[0] in workers.TOGETHER, (
        "name this file in tests/workers.py"
    )
    stages: list[Stage] = [request.getfixturevalue(name) for name in STAGES if name in request.fixturenames]
    yield
    for stage in stages:
        for log in sorted(stage.home.glob("*.log")):
            print(f"--- the end of {log.name}\n{last_lines(log)}")
        assert stage.violations() == []


def last_lines(log: Path, lines: int = 40) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
