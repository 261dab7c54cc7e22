"""Bounds on what a tenant may have and how fast it may ask: above them 429 with Retry-After, and no row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import builders as make
import httpx
import pytest
from http_gang import gang_in
from races import eventually, together
from replica import Replica, replica
from sqlalchemy import text

from orchestrator.errors import Invalid
from orchestrator.store import requests, tenants
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope

BOUNDS = {"max_open": 12, "max_queued": 8, "max_waits": 3}
TEMPLATE = {"handler": "samples.echo:Echo", "pool": {"max": 1}}


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    with replica(shared_database, tmp_path_factory.mktemp("replica"), **BOUNDS) as running:
        yield running


@pytest.fixture
def tenant(here: Replica) -> str:
    return here.database.transact(make.tenant)


@pytest.fixture
def caller(here: Replica, tenant: str) -> Iterator[httpx.Client]:
    with here.caller(tenant=tenant) as client:
        for name in ("one", "two"):
            assert client.put(f"/v1/templates/{name}", json=TEMPLATE).status_code == 200
        yield client


def submit(client: httpx.Client, template: str = "one", **headers: str) -> httpx.Response:
    return client.post("/v1/requests", json={"template": template}, headers=headers)


def rows(here: Replica, tenant: str) -> int:
    return here.database.transact(lambda tx: make.count(tx, "SELECT count(*) FROM request WHERE tenant = :t", t=tenant))


def refused(answer: httpx.Response, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (429, code), answer.text
    assert answer.json()["retryable"] and int(answer.headers["retry-after"]) >= 1


def bound(here: Replica, tenant: str, **bounds: Any) -> None:
    here.database.transact(lambda tx: tenants.set_bounds(tx, tenant, bounds))


def test_a_template_takes_as_many_as_may_wait_and_not_one_more(
    here: Replica, tenant: str, caller: httpx.Client
) -> None:
    answers = together([lambda: submit(caller)] * 20)
    assert Counter(one.status_code for one in answers if isinstance(one, httpx.Response)) == {202: 8, 429: 12}
    assert rows(here, tenant) == 8
    refused(submit(caller), "queue_full")
    assert submit(caller, "two").status_code == 202


def test_a_tenant_has_as_many_open_as_it_may(here: Replica, tenant: str, caller: httpx.Client) -> None:
    for template in ("one", "two"):
        statuses = [submit(caller, template).status_code for _ in range(7)]
    assert statuses == [202] * 5 + [429] * 2
    assert rows(here, tenant) == 12
    with here.caller() as other:
        other.put("/v1/templates/one", json=TEMPLATE)
        assert submit(other).status_code == 202


def test_room_that_comes_free_is_given_again(caller: httpx.Client) -> None:
    accepted = [submit(caller).json()["id"] for _ in range(8)]
    refused(submit(caller), "queue_full")
    caller.post(f"/v1/requests/{accepted[0]}/cancel")
    eventually(lambda: submit(caller).status_code == 202)
    refused(submit(caller), "queue_full")


def test_what_a_key_was_accepted_for_is_found_where_nothing_more_is_taken(
    here: Replica, tenant: str, caller: httpx.Client
) -> None:
    first = submit(caller, **{"Idempotency-Key": "k"}).json()["id"]
    while submit(caller).status_code == 202:
        pass
    again = submit(caller, **{"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (202, first)
    assert rows(here, tenant) == 8


def test_what_is_refused_for_another_reason_takes_no_room(here: Replica, tenant: str, caller: httpx.Client) -> None:
    caller.patch("/v1/pools/one", json={"max": 0})
    for _ in range(20):
        assert caller.post("/v1/requests", json={"template": "one", "mode": "warm"}).status_code == 409
        assert caller.post("/v1/requests", json={"template": "one", "input": []}).status_code == 422
    assert [submit(caller).status_code for _ in range(9)] == [202] * 8 + [429]
    assert rows(here, tenant) == 8


def test_a_tenant_may_have_bounds_of_its_own(here: Replica, tenant: str, caller: httpx.Client) -> None:
    bound(here, tenant, max_open=3)
    assert [submit(caller).status_code for _ in range(4)] == [202, 202, 202, 429]
    bound(here, tenant, max_open=None)
    eventually(lambda: submit(caller).status_code == 202)


def test_replicas_that_share_a_database_keep_one_bound(
    here: Replica, tenant: str, caller: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("other")
    with replica(here.database, folder, **BOUNDS) as other, other.caller(tenant=tenant) as there:
        while submit(caller).status_code == 202:
            pass
        refused(submit(there), "queue_full")
        assert rows(here, tenant) == 8


def test_what_gangs_hold_is_open_too(here: Replica, tenant: str, caller: httpx.Client) -> None:
    pool = here.database.transact(
        lambda tx: tx.execute(text("SELECT * FROM pool WHERE tenant = :t AND template = 'one'"), {"t": tenant}).one()
    )
    gang = gang_in(here, pool).begin()
    bound(here, tenant, max_open=2)
    held = submit(caller).json()
    assert held["status"] == "assigned"
    assert submit(caller).status_code == 202
    refused(submit(caller), "queue_full")
    assert here.database.look(lambda tx: tenants.standing(tx, tenant, 100)).open == 2
    assert gang.finish(gang.lease()).status_code == 200
    assert here.database.transact(lambda tx: requests.get(tx, tenant, held["id"])).state == "succeeded"


def test_a_tenant_that_asks_too_often_is_told_when_to_come_again(
    here: Replica, tenant: str, caller: httpx.Client
) -> None:
    bound(here, tenant, submit_rate=0.2)
    assert submit(caller).status_code == 202
    slow = submit(caller)
    refused(slow, "rate_limited")
    assert (
        1
        <= int(slow.headers["retry-after"])
        <= 5 * here.database.look(lambda tx: tenants.standing(tx, tenant, 1).replicas)
    )
    assert rows(here, tenant) == 1


def test_waits_of_a_tenant_are_counted_and_a_submit_that_may_not_wait_is_accepted(
    here: Replica, caller: httpx.Client
) -> None:
    request_id = submit(caller).json()["id"]
    answers = together([lambda: caller.get(f"/v1/requests/{request_id}?wait=2")] * 10)
    statuses = Counter(one.status_code for one in answers if isinstance(one, httpx.Response))
    assert statuses == {200: 3, 429: 7}
    refused(
        next(one for one in answers if isinstance(one, httpx.Response) and one.status_code == 429), "too_many_waits"
    )
    bound(here, request_tenant(here, request_id), max_waits=0)
    eventually(lambda: caller.get(f"/v1/requests/{request_id}?wait=0.01").status_code == 429 or submit(caller) is None)
    accepted = submit(caller, Prefer="wait=5")
    assert accepted.status_code == 202 and "preference-applied" not in accepted.headers


def request_tenant(here: Replica, request_id: str) -> str:
    return str(here.database.transact(lambda tx: make.request_row(tx, request_id)).tenant)


# ----------------------------------------------------------------------------------------------------------- workers


def test_a_gang_parks_no_more_polls_than_it_can_need(here: Replica) -> None:
    pool = here.database.transact(lambda tx: make.pool(tx))
    gang = gang_in(here, pool).begin()
    answers = together([lambda: gang.work(wait=1)] * 30)
    statuses = Counter(one.status_code for one in answers if isinstance(one, httpx.Response))
    assert statuses[200] <= 9 and statuses[429] >= 21 and len(statuses) == 2
    assert gang.work().status_code == 200


def test_a_flood_of_beats_is_refused_and_a_usual_beat_is_not(here: Replica) -> None:
    pool = here.database.transact(lambda tx: make.pool(tx))
    gang, calm = gang_in(here, pool).begin(), gang_in(here, pool).begin()
    statuses = Counter(gang.beat().status_code for _ in range(300))
    assert statuses[200] >= 100 and statuses[429] >= 1, statuses
    assert calm.beat().status_code == 200
    refused(next(answer for answer in (gang.beat() for _ in range(1000)) if answer.status_code == 429), "rate_limited")


# ------------------------------------------------------------------------------------------------------ the store's


def test_a_bound_must_have_a_name_and_a_tenant_too(here: Replica) -> None:
    for tenant, bounds in (("", {}), ("a b", {}), ("x" * 64, {}), ("ä", {}), ("fine", {"max_fun": 1.0})):
        with pytest.raises(Invalid, match=r"tenant|bound"):
            here.database.transact(lambda tx, t=tenant, b=bounds: tenants.set_bounds(tx, t, b))  # type: ignore[misc]
    with here.caller(Scope.READ) as reader:
        refused_submit = submit(reader)
        assert refused_submit.status_code == 403
