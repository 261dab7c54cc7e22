"""/v1/webhooks over HTTP, and the webhook of a submission."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import builders as make
import httpx
import pytest
from replica import Replica, replica
from sqlalchemy import text

from orchestrator.domain.ids import new_id
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope

URL = "https://hooks.example.com/muster"


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    with replica(shared_database, tmp_path_factory.mktemp("replica"), webhook_keys=("k" * 32,)) as running:
        yield running


def refused(answer: httpx.Response, status: int, code: str) -> Any:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return answer.json()


def created(client: httpx.Client, **changes: Any) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json={"url": URL} | changes)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_webhook_is_made_shown_listed_and_deleted_and_its_secret_is_shown_once(caller: httpx.Client) -> None:
    answer = caller.post("/v1/webhooks", json={"url": "https://Hooks.example.com", "events": ["gang.lost"]})
    made = answer.json()
    secret = made.pop("secret")
    assert secret.startswith("whsec_") and len(secret) > 40
    assert answer.headers["location"] == f"/v1/webhooks/{made['id']}"
    assert made["url"] == "https://hooks.example.com/" and made["events"] == ["gang.lost"] and made["enabled"] is True
    assert caller.get(f"/v1/webhooks/{made['id']}").json() == made
    assert caller.get("/v1/webhooks").json()["data"] == [made]
    assert caller.delete(f"/v1/webhooks/{made['id']}").status_code == 204
    refused(caller.get(f"/v1/webhooks/{made['id']}"), 404, "not_found")
    assert caller.get("/v1/webhooks").json()["data"] == []


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"url": "http://example.com/"}, "webhook_url_refused", "/url"),
        ({"url": "https://127.1/"}, "webhook_url_refused", "/url"),
        ({"url": "https://u:p@example.com/"}, "webhook_url_refused", "/url"),
        ({"url": "https://example.com/" + "x" * 2000}, "invalid_input", "/url"),
        ({"url": URL, "events": []}, "invalid_input", "/events"),
        ({"url": URL, "events": ["request.exploded"]}, "invalid_input", "/events/0"),
        ({"url": URL, "secret": "whsec_mine"}, "invalid_input", "/secret"),
        ({"url": 7}, "invalid_input", "/url"),
        ({}, "invalid_input", "/url"),
    ],
)
def test_what_cannot_be_a_webhook_is_refused_and_nothing_is_stored(
    caller: httpx.Client, body: dict[str, Any], code: str, pointer: str
) -> None:
    problem = refused(caller.post("/v1/webhooks", json=body), 422, code)
    assert problem["errors"][0]["pointer"] == pointer
    assert caller.get("/v1/webhooks").json()["data"] == []


CALLS = [
    ("GET", ""),
    ("DELETE", ""),
    ("POST", "/enable"),
    ("POST", "/rotate"),
    ("POST", "/test"),
    ("GET", "/deliveries"),
]


def test_another_tenants_webhook_is_not_there(here: Replica, caller: httpx.Client) -> None:
    mine = created(caller)
    ping = caller.post(f"/v1/webhooks/{mine['id']}/test").json()
    deliveries = [("GET", f"/deliveries/{ping['id']}"), ("POST", f"/deliveries/{ping['id']}/replay")]
    with here.caller() as stranger:
        for method, rest in CALLS + deliveries:
            body = {"json": {}} if rest == "/rotate" else {}
            answer = stranger.request(method, f"/v1/webhooks/{mine['id']}{rest}", **body)
            refused(answer, 404, "not_found")
            assert "hooks.example.com" not in answer.text
        assert stranger.get("/v1/webhooks").json()["data"] == []
    assert caller.get(f"/v1/webhooks/{mine['id']}").json()["enabled"] is True


def test_only_an_admin_sees_or_changes_webhooks(here: Replica, caller: httpx.Client) -> None:
    mine = created(caller)
    with here.caller(Scope.SUBMIT, Scope.READ) as user:
        refused(user.post("/v1/webhooks", json={"url": URL}), 403, "forbidden")
        refused(user.get("/v1/webhooks"), 403, "forbidden")
        refused(user.post("/v1/webhooks/secret", json={}), 403, "forbidden")
        refused(user.get(f"/v1/webhooks/{mine['id']}"), 403, "forbidden")
    refused(here.client().get("/v1/webhooks"), 401, "unauthorized")


def test_a_rotation_shows_a_new_secret(caller: httpx.Client) -> None:
    mine = created(caller)
    renewed = caller.post(f"/v1/webhooks/{mine['id']}/rotate", json={"overlap_s": 60})
    assert renewed.status_code == 201 and renewed.json()["secret"] not in ("", mine["secret"])
    refused(caller.post(f"/v1/webhooks/{mine['id']}/rotate", json={"overlap_s": 1e9}), 422, "invalid_input")


def test_a_ping_is_a_delivery_that_can_be_looked_at_and_replayed(here: Replica, caller: httpx.Client) -> None:
    mine = created(caller)
    answer = caller.post(f"/v1/webhooks/{mine['id']}/test")
    ping = answer.json()
    assert answer.status_code == 202 and ping["type"] == "webhook.ping" and ping["state"] == "pending"
    assert "deliver" in here.rung
    place = f"/v1/webhooks/{mine['id']}/deliveries"
    assert caller.get(place).json()["data"] == [ping] == caller.get(place, params={"state": "pending"}).json()["data"]
    assert caller.get(place, params={"state": "failed"}).json()["data"] == []
    assert caller.get(f"{place}/{ping['id']}").json() == ping
    again = caller.post(f"{place}/{ping['id']}/replay")
    assert again.status_code == 202 and again.json()["id"] == ping["id"]
    refused(caller.get(f"{place}/msg_{mine['id']}_99"), 404, "not_found")
    refused(caller.get(f"{place}/nonsense"), 404, "not_found")


def test_a_tenant_has_at_most_twenty_endpoints(caller: httpx.Client) -> None:
    for _ in range(20):
        created(caller)
    refused(caller.post("/v1/webhooks", json={"url": URL}), 409, "too_many_webhooks")


# ------------------------------------------------------------------------------------------------- hooks of requests


def submission(**changes: Any) -> dict[str, Any]:
    return {"template": "echo", "webhook": {"url": URL}} | changes


def test_the_hook_of_a_request_needs_the_tenants_secret_and_hears_its_end(caller: httpx.Client) -> None:
    for place in ("/v1/requests", "/v1/requests:validate"):
        refused(caller.post(place, json=submission()), 409, "no_webhook_secret")
    assert caller.get("/v1/requests").json()["data"] == []
    assert caller.post("/v1/webhooks/secret", json={}).json()["secret"].startswith("whsec_")
    request = caller.post("/v1/requests", json=submission()).json()["id"]
    caller.post(f"/v1/requests/{request}/cancel")
    (hook,) = caller.get("/v1/webhooks", params={"request": request}).json()["data"]
    assert hook["request"] == request and hook["url"] == URL
    (told,) = caller.get(f"/v1/webhooks/{hook['id']}/deliveries").json()["data"]
    assert (told["type"], told["subject"], told["state"]) == ("request.canceled", request, "pending")
    assert caller.get("/v1/webhooks").json()["data"] == []
    refused(caller.post(f"/v1/webhooks/{hook['id']}/rotate", json={}), 409, "no_own_secret")


@pytest.mark.parametrize(
    ("hook", "code", "pointer"),
    [
        ({"url": "https://169.254.169.254/"}, "webhook_url_refused", "/webhook/url"),
        ({"url": URL, "events": ["gang.lost"]}, "invalid_input", "/webhook/events/0"),
        ({"url": URL, "headers": {}}, "invalid_input", "/webhook/headers"),
        ("https://example.com", "invalid_input", "/webhook"),
    ],
)
def test_a_hook_that_cannot_be_is_refused_with_the_request(
    caller: httpx.Client, hook: Any, code: str, pointer: str
) -> None:
    for place in ("/v1/requests", "/v1/requests:validate"):
        problem = refused(caller.post(place, json=submission(webhook=hook)), 422, code)
        assert problem["errors"][0]["pointer"] == pointer
    assert caller.get("/v1/requests").json()["data"] == []


def test_the_same_key_with_another_hook_is_another_body(caller: httpx.Client) -> None:
    caller.post("/v1/webhooks/secret", json={})
    key = {"Idempotency-Key": "k"}
    first = caller.post("/v1/requests", json=submission(), headers=key).json()["id"]
    assert caller.post("/v1/requests", json=submission(), headers=key).json()["id"] == first
    other = submission(webhook={"url": f"{URL}/x"})
    refused(caller.post("/v1/requests", json=other, headers=key), 422, "idempotency_key_reused")


def told_of(client: httpx.Client, request: str) -> list[int]:
    """How many messages each hook of the request got."""
    hooks = client.get("/v1/webhooks", params={"request": request}).json()["data"]
    return [len(client.get(f"/v1/webhooks/{hook['id']}/deliveries").json()["data"]) for hook in hooks]


def test_a_hook_sent_with_the_id_of_somebody_elses_request_hears_nothing_of_it(here: Replica) -> None:
    """IDs may be chosen by callers, so they may be guessed, or known; and what is sent under one may be refused."""
    request, body = new_id("req"), submission(mode="warm")
    with here.caller() as owner, here.caller() as thief:
        for client in (owner, thief):
            client.put("/v1/templates/echo", json={"handler": "samples.echo:Echo"})
            client.post("/v1/webhooks/secret", json={})
        thief.patch("/v1/pools/echo", json={"min": 0, "max": 0})
        refused(thief.put(f"/v1/requests/{request}", json=body), 409, "no_warm_pool")
        assert owner.put(f"/v1/requests/{request}", json=body).status_code == 202
        refused(thief.put(f"/v1/requests/{request}", json=body | {"mode": "auto"}), 422, "request_id_reused")
        owner.post(f"/v1/requests/{request}/cancel")
        assert told_of(owner, request) == [1]
        assert set(told_of(thief, request)) == {0}


def test_the_hook_of_a_refused_request_hears_nothing_of_the_next_one_with_its_id(caller: httpx.Client) -> None:
    request = new_id("req")
    caller.post("/v1/webhooks/secret", json={})
    caller.patch("/v1/pools/echo", json={"min": 0, "max": 0})
    refused(caller.put(f"/v1/requests/{request}", json=submission(mode="warm")), 409, "no_warm_pool")
    assert caller.put(f"/v1/requests/{request}", json={"template": "echo"}).status_code == 202
    caller.post(f"/v1/requests/{request}/cancel")
    assert told_of(caller, request) == [0]


def test_a_request_sent_again_under_its_id_is_told_once(caller: httpx.Client) -> None:
    caller.post("/v1/webhooks/secret", json={})
    request = new_id("req")
    for _ in range(2):
        assert caller.put(f"/v1/requests/{request}", json=submission()).status_code == 202
    caller.post(f"/v1/requests/{request}/cancel")
    (hook,) = caller.get("/v1/webhooks", params={"request": request}).json()["data"]
    assert len(caller.get(f"/v1/webhooks/{hook['id']}/deliveries").json()["data"]) == 1


def test_without_a_key_of_the_installation_there_are_no_webhooks(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with replica(shared_database, tmp_path_factory.mktemp("bare")) as bare, bare.caller() as client:
        refused(client.post("/v1/webhooks", json={"url": URL}), 409, "webhooks_off")
        refused(client.post("/v1/webhooks/secret", json={}), 409, "webhooks_off")


def test_where_a_deleted_webhook_was_nothing_is_left(here: Replica, caller: httpx.Client) -> None:
    mine = created(caller)
    caller.post(f"/v1/webhooks/{mine['id']}/test")
    caller.delete(f"/v1/webhooks/{mine['id']}")

    def left(tx: make.Tx) -> list[int]:
        queries = ("webhook WHERE id", "webhook_secret WHERE owner", "delivery WHERE webhook_id")
        return [tx.execute(text(f"SELECT count(*) FROM {q} = :id"), {"id": mine["id"]}).scalar_one() for q in queries]

    assert here.database.transact(left) == [0, 0, 0]
