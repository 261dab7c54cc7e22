"""GET .../explain: what the store has of a request, a gang and a pool becomes findings; other tenants' stay theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import builders as make
import httpx
import pytest
from http_gang import HttpGang
from replica import Replica

from orchestrator.domain.states import Reason
from orchestrator.store import gangs, requests
from orchestrator.store.database import Record


@pytest.fixture
def caller(here: Replica) -> Iterator[httpx.Client]:
    """Somebody of a tenant of its own, with the template `echo`: one gang of two ranks at most."""
    with here.caller() as client:
        spec = {"handler": "samples.echo:Echo", "ranks_per_node": 2, "pool": {"max": 1}}
        assert client.put("/v1/templates/echo", json=spec).status_code == 200
        yield client


def submit(client: httpx.Client, **changes: Any) -> str:
    answer = client.post("/v1/requests", json={"template": "echo"} | changes)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def explained(client: httpx.Client, path: str) -> dict[str, Any]:
    answer = client.get(f"/v1/{path}/explain")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def finding(told: dict[str, Any], code: str) -> dict[str, Any]:
    found = [one for one in told["findings"] if one["code"] == code]
    assert found, [one["code"] for one in told["findings"]]
    return dict(found[0])


def pool_of(here: Replica, request_id: str) -> Record:
    query = make.text("SELECT p.* FROM pool p JOIN request r ON r.pool_id = p.id WHERE r.id = :r")
    return here.database.transact(lambda tx: tx.execute(query, {"r": request_id}).one())


def launched(here: Replica, request_id: str) -> HttpGang:
    pool = pool_of(here, request_id)
    return HttpGang(here, here.database.transact(lambda tx: make.launching(tx, pool)), world=2)


def test_a_waiting_request_names_what_is_ahead_and_the_gang_that_starts(here: Replica, caller: httpx.Client) -> None:
    first, second = submit(caller), submit(caller)
    gang = launched(here, first)
    told = explained(caller, f"requests/{second}")
    assert (told["kind"], told["status"]) == ("request", "queued")
    assert finding(told, "position")["figures"]["position"] == 2 and first in told["summary"]
    assert finding(told, "gang_starting")["figures"] | {"for_s": 0, "launched_s": 0} == {
        "gang": gang.id, "phase": "launch", "for_s": 0, "launched_s": 0,
        "usual_s": None, "usual_start_s": None, "start_timeout_s": 900.0,
    }  # fmt: skip
    assert f"muster wait {second}" in [step["command"] for step in told["next"]]


def test_the_phase_of_a_start_comes_with_its_beats_and_missing_ranks_by_number(
    here: Replica, caller: httpx.Client
) -> None:
    gang = launched(here, submit(caller))
    assert gang.hello().status_code == 200
    beat = {"phase": "loading", "starting": "setup", "ranks": []}
    for _ in range(2):
        assert gang.call("POST", f"/gangs/{gang.id}/beat", beat).status_code == 200
    told = explained(caller, f"gangs/{gang.id}")
    assert finding(told, "gang_starting")["figures"]["phase"] == "setup"
    assert finding(told, "ranks_missing")["sentence"].endswith("missing: 1")


def test_the_backend_s_word_on_a_start_is_kept_and_shown(here: Replica, caller: httpx.Client) -> None:
    request = submit(caller)
    gang = launched(here, request)
    words = {gang.id: ("FailedScheduling", "0/3 nodes are available")}
    for _ in range(2):
        here.database.transact(lambda tx: gangs.note_words(tx, words))
    said = finding(explained(caller, f"requests/{request}"), "backend_says")
    assert said["figures"] == {"gang": gang.id, "reason": "FailedScheduling"}
    assert said["sentence"].endswith("FailedScheduling: 0/3 nodes are available")


def test_a_running_request_shows_its_step_and_every_rank(here: Replica, caller: httpx.Client) -> None:
    request = submit(caller)
    gang = launched(here, request).begin()
    lease = gang.lease()
    steps = [{"rank": 0, "step": 4, "age_s": 0.1}, {"rank": 1, "step": 2, "age_s": 3.0}]
    pulse = {"attempt": lease["attempt"], "token": lease["token"], "phase": "run", "current": 4, "total": 8}
    body = {"phase": "busy", "ranks": steps, "attempts": [pulse]}
    assert gang.call("POST", f"/gangs/{gang.id}/beat", body).status_code == 200
    told = explained(caller, f"requests/{request}")
    assert told["summary"] == f"it runs on gang {gang.id}"
    assert finding(told, "phase")["figures"] | {"left_s": 0} == {
        "phase": "run", "current": 4.0, "total": 8.0, "left_s": 0,
    }  # fmt: skip
    assert finding(told, "slowest_rank")["figures"] == {"rank": 1, "step": 2, "behind": 2, "age_s": 3.0}
    waiting = explained(caller, f"requests/{submit(caller)}")
    assert finding(waiting, "gang_busy")["figures"]["request"] == request


def test_a_failure_names_rank_node_and_whose_it_is(here: Replica, caller: httpx.Client) -> None:
    request = submit(caller)
    gang = launched(here, request).begin()
    error = {"code": "handler_error", "message": "no such digit", "rank": 1, "node": "n1", "traceback": "Traceback"}
    assert gang.finish(gang.lease(), outcome="failed", result=None, error=error).status_code == 200
    told = explained(caller, f"requests/{request}")
    cause = told["cause"]
    assert (cause["code"], cause["whose"], cause["rank"], cause["node"]) == ("handler_error", "user", 1, "n1")
    assert cause["traceback"] == "Traceback"
    assert f"muster logs {request} --rank 1" in [step["command"] for step in told["next"]]


def test_medians_come_from_successes_and_starts_of_this_template(here: Replica, caller: httpx.Client) -> None:
    request = submit(caller)
    gang = launched(here, request).begin()
    gang.finish(gang.lease(), run_s=2.0)
    told = explained(caller, "pools/echo")
    usual = finding(told, "usual")["figures"]
    assert (usual["run_s"], usual["runs"], usual["starts"], usual["setup_s"]) == (2.0, 1, 1, 0.5)
    assert finding(told, "gang_idle")["figures"]["gang"] == gang.id
    assert finding(told, "eta")["figures"]["seconds"] == 0


def test_a_held_pool_says_which_start_failed(here: Replica, caller: httpx.Client) -> None:
    request = submit(caller)
    gang = launched(here, request)
    here.database.transact(lambda tx: gangs.end(tx, gang.id, Reason.LAUNCH_FAILED, "the image is not there"))
    told = explained(caller, f"requests/{request}")
    assert "the image is not there" in finding(told, "pool_held")["sentence"]
    gone = explained(caller, f"gangs/{gang.id}")
    assert (gone["status"], gone["cause"]["code"], gone["cause"]["whose"]) == ("gone", "launch_failed", "infra")


def test_a_request_that_no_gang_could_start_for_names_the_gang_whose_log_says_why(
    here: Replica, caller: httpx.Client
) -> None:
    request = submit(caller)
    gang = launched(here, request)

    def give_up(tx: make.Tx) -> None:
        gangs.end(tx, gang.id, Reason.SETUP_FAILED, "no such file")
        assert requests.fail_queued(tx, request, Reason.SETUP_FAILED, "no such file", cause={"rank": 1, "node": "n1"})

    here.database.transact(give_up)
    told = explained(caller, f"requests/{request}")
    assert finding(told, "not_tried") and told["cause"]["rank"] == 1
    assert f"muster gang logs {gang.id} --rank 1" in [step["command"] for step in told["next"]]


def test_another_tenant_s_things_are_not_there(here: Replica, caller: httpx.Client) -> None:
    request = submit(caller)
    gang = launched(here, request)
    with here.caller() as other:
        for path, code in (
            (f"requests/{request}", "not_found"),
            (f"gangs/{gang.id}", "not_found"),
            ("pools/echo", "unknown_template"),
        ):
            answer = other.get(f"/v1/{path}/explain")
            assert (answer.status_code, answer.json()["code"]) == (404, code)


def test_an_item_of_a_batch_is_explained_by_the_gangs_of_its_batch(here: Replica, caller: httpx.Client) -> None:
    pool = pool_of(here, submit(caller))
    batch = here.database.transact(lambda tx: make.batch(tx, pool, tenant=pool.tenant))
    item = here.database.transact(lambda tx: make.item(tx, batch, 2).id)
    told = explained(caller, f"requests/{item}")
    assert finding(told, "item")["figures"] == {"batch": batch, "gangs": 0}
    assert finding(told, "position")["figures"]["position"] == 2
