"""The phases of a run as its gang says them: kept with the attempt, from the first beat to the report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import builders as make
import httpx
import pytest
from http_gang import HttpGang
from replica import Replica, replica

from orchestrator.store.database import Database


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    with replica(shared_database, tmp_path_factory.mktemp("replica")) as running:
        yield running


@pytest.fixture
def caller(here: Replica) -> Iterator[httpx.Client]:
    with here.caller() as client:
        assert client.put("/v1/templates/echo", json={"handler": "samples.echo:Echo"}).status_code == 200
        yield client


def leased(here: Replica, client: httpx.Client) -> tuple[HttpGang, dict[str, Any]]:
    request = client.post("/v1/requests", json={"template": "echo"}).json()["id"]

    def ready(tx: make.Tx) -> make.Gang:
        pool_id = make.request_row(tx, request).pool_id
        pool = tx.execute(make.text("SELECT * FROM pool WHERE id = :p"), {"p": pool_id}).one()
        made = make.ready(tx, pool)
        assert make.assign(tx, pool)
        return made

    made = here.database.transact(ready)
    gang = HttpGang(here, made)
    gang.session = made.session
    return gang, gang.lease()


def kept(here: Replica, lease: dict[str, Any]) -> Any:
    query = make.text("SELECT trail FROM attempt WHERE id = :a")
    return here.database.look(lambda tx: tx.execute(query, {"a": lease["attempt"]}).scalar_one())


def trail(*phases: tuple[str, float], elapsed_s: float = 10.0) -> dict[str, Any]:
    return {"elapsed_s": elapsed_s, "phases": [list(one) for one in phases]}


def test_a_beat_keeps_the_phases_in_the_databases_time(here: Replica, caller: httpx.Client) -> None:
    gang, lease = leased(here, caller)
    said = trail(("run", 0.0), ("denoise", 2.0))
    assert gang.beat(lease, phase="denoise", trail=said).status_code == 200
    found = kept(here, lease)
    assert found["phases"] == said["phases"]
    assert abs(found["began"] - (time.time() - 10)) < 5


def test_the_report_has_the_last_word(here: Replica, caller: httpx.Client) -> None:
    gang, lease = leased(here, caller)
    gang.beat(lease, phase="run", trail=trail(("run", 0.0)))
    whole = trail(("run", 0.0), ("denoise", 2.0), ("publish", 9.0))
    assert gang.finish(lease, trail=whole).status_code == 200
    assert kept(here, lease)["phases"] == whole["phases"]
    assert gang.finish(lease, trail=whole).status_code == 200, "the same report again is a replay"


def test_a_failure_keeps_its_phases_too(here: Replica, caller: httpx.Client) -> None:
    gang, lease = leased(here, caller)
    error = {"code": "handler_error", "message": "it broke"}
    said = trail(("run", 0.0), ("decode", 1.0))
    assert gang.finish(lease, outcome="failed", result=None, error=error, trail=said).status_code == 200
    assert kept(here, lease)["phases"] == said["phases"]


def test_a_gang_of_before_that_says_none_is_taken_as_it_is(here: Replica, caller: httpx.Client) -> None:
    gang, lease = leased(here, caller)
    assert gang.beat(lease, phase="run").status_code == 200
    assert gang.finish(lease).status_code == 200
    assert kept(here, lease) is None


def test_what_a_beat_said_stays_when_the_report_says_nothing(here: Replica, caller: httpx.Client) -> None:
    gang, lease = leased(here, caller)
    gang.beat(lease, phase="run", trail=trail(("run", 0.0), ("denoise", 2.0)))
    assert gang.finish(lease).status_code == 200
    assert kept(here, lease)["phases"][-1] == ["denoise", 2.0]


@pytest.mark.parametrize(
    "odd",
    [
        trail(*[("x", 0.0)] * 129),
        trail(("x", -1.0)),
        {"elapsed_s": "soon", "phases": []},
        {"elapsed_s": 1e300, "phases": [["x", 0.0]]},
        {"elapsed_s": 1.0, "phases": [["x"]]},
    ],
)
def test_a_trail_that_makes_no_sense_is_refused(here: Replica, caller: httpx.Client, odd: Any) -> None:
    gang, lease = leased(here, caller)
    assert gang.beat(lease, phase="run", trail=odd).status_code == 422
    assert gang.finish(lease, trail=odd).status_code == 422


def test_a_deleted_request_leaves_no_names_of_phases(here: Replica, caller: httpx.Client) -> None:
    gang, lease = leased(here, caller)
    gang.finish(lease, trail=trail(("a secret name", 0.0)))
    assert caller.delete(f"/v1/requests/{lease['request']}").status_code == 204
    assert kept(here, lease) is None
