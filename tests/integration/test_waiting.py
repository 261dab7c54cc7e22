"""Those who wait on one replica see what happens on another, soon; and are answered when their replica goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import builders as make
import httpx
import pytest
from http_gang import HttpGang
from races import eventually
from replica import Replica, replica

from orchestrator.domain.states import Reason
from orchestrator.store import gangs
from orchestrator.store.database import Database, Record

SOON_S = 0.2
TRIES = 4
"""On a busy machine any one of them may be late; the safety net alone (2 s) would make all of them late."""


@pytest.fixture(scope="module")
def replicas(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Replica, Replica]]:
    folder = tmp_path_factory.mktemp("replicas")
    with replica(shared_database, folder) as here, replica(shared_database, folder) as there:
        yield here, there


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def pool(shared_database: Database) -> Record:
    return shared_database.transact(make.pool)


def ready_gang(here: Replica, pool: Record) -> HttpGang:
    made = here.database.transact(lambda tx: make.ready(tx, pool))
    gang = HttpGang(here, made)
    gang.session = made.session
    return gang


def parked(at: Replica, prefix: str, key: str) -> None:
    """Until somebody waits there for the thing."""
    eventually(lambda: key in at.office.hub.waiting(prefix))


def submit(client: httpx.Client, pool: Record, headers: dict[str, str] | None = None) -> dict[str, Any]:
    answer = client.post("/v1/requests", json={"template": pool.template}, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    return dict(answer.json())


def test_a_parked_gang_gets_what_is_submitted_on_another_replica_at_once(
    replicas: tuple[Replica, Replica], pool: Record, threads: ThreadPoolExecutor
) -> None:
    here, there = replicas
    gang, took = ready_gang(here, pool), []
    with there.caller(tenant="default") as client:
        for _ in range(TRIES):
            poll: Future[httpx.Response] = threads.submit(gang.work, 20)
            parked(here, "g:", gang.id)
            submitted = submit(client, pool)
            began = time.monotonic()
            (lease,) = poll.result(timeout=10).json()["work"]
            took.append(time.monotonic() - began)
            assert lease["request"] == submitted["id"]
            gang.finish(lease)
    assert min(took) < SOON_S


def test_who_waits_for_a_request_is_told_of_its_end_on_another_replica_at_once(
    replicas: tuple[Replica, Replica], pool: Record, threads: ThreadPoolExecutor
) -> None:
    here, there = replicas
    gang, took = ready_gang(there, pool), []
    with here.caller(tenant="default") as client:
        for _ in range(TRIES):
            request = submit(client, pool)
            lease = gang.lease()
            wait = threads.submit(client.get, f"/v1/requests/{request['id']}?wait=20")
            parked(here, "r:", request["id"])
            began = time.monotonic()
            gang.finish(lease)
            assert wait.result(timeout=10).json()["status"] == "succeeded"
            took.append(time.monotonic() - began)
    assert min(took) < SOON_S


def test_who_waits_for_a_change_is_told_of_the_first(
    replicas: tuple[Replica, Replica], pool: Record, threads: ThreadPoolExecutor
) -> None:
    here, _ = replicas
    gang = ready_gang(here, pool)
    with here.caller(tenant="default") as client:
        path = f"/v1/requests/{submit(client, pool)['id']}"
        tag = client.get(path).headers["etag"]
        wait = threads.submit(client.get, f"{path}?wait=20", headers={"If-None-Match": tag})
        parked(here, "r:", path.rsplit("/", 1)[1])
        gang.beat(gang.lease(), phase="run")
        answer = wait.result(timeout=10)
        assert answer.status_code == 200 and answer.json()["status"] == "running"


def test_a_wait_without_a_change_ends_with_304(replicas: tuple[Replica, Replica], pool: Record) -> None:
    here, _ = replicas
    with here.caller(tenant="default") as client:
        path = f"/v1/requests/{submit(client, pool)['id']}"
        tag = client.get(path).headers["etag"]
        answer = client.get(f"{path}?wait=0.2", headers={"If-None-Match": tag})
        assert answer.status_code == 304 and answer.elapsed.total_seconds() >= 0.2


def test_a_submit_that_prefers_to_wait_answers_with_the_result(
    replicas: tuple[Replica, Replica], pool: Record, threads: ThreadPoolExecutor
) -> None:
    here, there = replicas
    gang = ready_gang(there, pool)
    with here.caller(tenant="default") as client:
        waiting = threads.submit(
            client.post, "/v1/requests", json={"template": pool.template}, headers={"Prefer": "respond-async, wait=20"}
        )
        lease = gang.work(20).json()["work"][0]
        gang.finish(lease)
        answer = waiting.result(timeout=10)
    assert answer.status_code == 200 and answer.json()["status"] == "succeeded"
    assert answer.headers["preference-applied"] == "wait=20"


def test_a_submit_that_waits_in_vain_is_accepted_all_the_same(
    replicas: tuple[Replica, Replica], pool: Record, threads: ThreadPoolExecutor
) -> None:
    here, _ = replicas
    with here.caller(tenant="default") as client:
        answer = client.post("/v1/requests", json={"template": pool.template}, headers={"Prefer": "wait=1"})
        assert answer.status_code == 202 and answer.json()["status"] == "queued"


@pytest.mark.parametrize("preference", ["wait=-1", "wait=x", "wait", "return=minimal", "wait=0", "await=40"])
def test_a_preference_that_makes_no_sense_is_ignored(
    replicas: tuple[Replica, Replica], pool: Record, preference: str
) -> None:
    here, _ = replicas
    with here.caller(tenant="default") as client:
        answer = client.post("/v1/requests", json={"template": pool.template}, headers={"Prefer": preference})
        assert answer.status_code == 202 and "preference-applied" not in answer.headers
        assert answer.elapsed.total_seconds() < 20, "nobody waited"


def test_a_parked_gang_is_told_to_drain_and_to_go(
    replicas: tuple[Replica, Replica], pool: Record, threads: ThreadPoolExecutor
) -> None:
    here, there = replicas
    gang = ready_gang(here, pool)
    poll = threads.submit(gang.work, 20)
    parked(here, "g:", gang.id)
    with there.caller(tenant="default") as client:
        client.post(f"/v1/gangs/{gang.id}/drain")
    assert poll.result(timeout=10).json() == {"action": "drain", "work": []}


def test_a_missed_wake_up_costs_no_more_than_the_safety_net(
    replicas: tuple[Replica, Replica], pool: Record, threads: ThreadPoolExecutor
) -> None:
    """A move made where nobody tells: as when the NOTIFY was lost."""
    here, _ = replicas
    silent, ended = ready_gang(here, pool), ready_gang(here, pool)
    polls = [threads.submit(gang.work, 25) for gang in (silent, ended)]
    for gang in (silent, ended):
        parked(here, "g:", gang.id)
    here.database.transact(lambda tx: gangs.end(tx, ended.id, Reason.IDLE, "idle"))
    here.database.transact(lambda tx: (make.queued(tx, pool), make.assign(tx, pool)))
    began = time.monotonic()
    assert len(polls[0].result(timeout=10).json()["work"]) == 1
    assert polls[1].result(timeout=10).status_code == 410
    assert time.monotonic() - began < 10


def test_parked_polls_are_answered_when_their_replica_ends(
    database: Database, tmp_path_factory: pytest.TempPathFactory, threads: ThreadPoolExecutor
) -> None:
    with replica(database, tmp_path_factory.mktemp("ending")) as ending:
        pool = database.transact(make.pool)
        gang = ready_gang(ending, pool)
        other = database.transact(make.pool)
        caller = ending.caller(tenant="default")
        request = submit(caller, other)
        poll = threads.submit(gang.work, 25)
        wait = threads.submit(caller.get, f"/v1/requests/{request['id']}?wait=25")
        parked(ending, "g:", gang.id)
        parked(ending, "r:", request["id"])
        began = time.monotonic()
        ending.leave()
        assert poll.result(timeout=10).json() == {"action": "continue", "work": []}
        assert wait.result(timeout=10).json()["status"] == "queued"
        assert time.monotonic() - began < 10
