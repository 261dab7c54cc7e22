"""The phases of a run as its gang says them: kept with the attempt, from the first beat to the report."""

from __future__ import annotations

import time
from typing import Any

import builders as make
import httpx
import pytest
from http_gang import HttpGang, gang_with
from replica import Replica


def leased(here: Replica, client: httpx.Client) -> tuple[HttpGang, dict[str, Any]]:
    request = client.post("/v1/requests", json={"template": "echo"}).json()["id"]
    gang = gang_with(here, request)
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
