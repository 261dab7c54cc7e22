"""Every route, every kind of caller: a route that is new and has no row here fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import builders as make
import httpx
import pytest
from http_gang import HttpGang, gang_in
from replica import Replica

from orchestrator.api.app import described
from orchestrator.store.tokens import Scope

OPEN, READ, SUBMIT, ADMIN, WORKER = "open", "read", "submit", "admin", "worker"

ROUTES = {
    "GET /healthz": OPEN,
    "GET /readyz": OPEN,
    "GET /metrics": OPEN,
    "GET /openapi.json": OPEN,
    "POST /v1/requests": SUBMIT,
    "PUT /v1/requests/{request_id}": SUBMIT,
    "POST /v1/requests:validate": SUBMIT,
    "GET /v1/requests": READ,
    "GET /v1/requests/{request_id}": READ,
    "DELETE /v1/requests/{request_id}": SUBMIT,
    "POST /v1/requests/{request_id}/cancel": SUBMIT,
    "POST /v1/requests/{request_id}/retry": SUBMIT,
    "GET /v1/requests/{request_id}/events": READ,
    "GET /v1/requests/{request_id}/explain": READ,
    "GET /v1/requests/{request_id}/logs": READ,
    "GET /v1/requests/{request_id}/outputs": READ,
    "GET /v1/requests/{request_id}/outputs/{name}": READ,
    "POST /v1/files": SUBMIT,
    "GET /v1/files/{file_id}": READ,
    "POST /v1/batches": SUBMIT,
    "GET /v1/batches": READ,
    "GET /v1/batches/{batch_id}": READ,
    "DELETE /v1/batches/{batch_id}": SUBMIT,
    "POST /v1/batches/{batch_id}/cancel": SUBMIT,
    "POST /v1/batches/{batch_id}/pause": SUBMIT,
    "POST /v1/batches/{batch_id}/resume": SUBMIT,
    "GET /v1/batches/{batch_id}/items": READ,
    "GET /v1/batches/{batch_id}/items/{custom_id}": READ,
    "POST /v1/batches/{batch_id}/items/{custom_id}/retry": SUBMIT,
    "GET /v1/batches/{batch_id}/results.jsonl": READ,
    "GET /v1/batches/{batch_id}/errors.jsonl": READ,
    "GET /v1/templates": READ,
    "GET /v1/templates/{name}": READ,
    "PUT /v1/templates/{name}": ADMIN,
    "DELETE /v1/templates/{name}": ADMIN,
    "GET /v1/pools": READ,
    "GET /v1/pools/{name}": READ,
    "GET /v1/pools/{name}/explain": READ,
    "PATCH /v1/pools/{name}": ADMIN,
    "POST /v1/pools/{name}/drain": ADMIN,
    "POST /v1/pools/{name}/recycle": ADMIN,
    "GET /v1/gangs": READ,
    "GET /v1/gangs/{gang}": READ,
    "GET /v1/gangs/{gang}/explain": READ,
    "POST /v1/gangs/{gang}/drain": ADMIN,
    "GET /v1/gangs/{gang}/logs": READ,
    "POST /v1/tokens": ADMIN,
    "GET /v1/tokens": ADMIN,
    "DELETE /v1/tokens/{token_id}": ADMIN,
    "POST /v1/webhooks": ADMIN,
    "GET /v1/webhooks": ADMIN,
    "POST /v1/webhooks/secret": ADMIN,
    "GET /v1/webhooks/{webhook_id}": ADMIN,
    "DELETE /v1/webhooks/{webhook_id}": ADMIN,
    "POST /v1/webhooks/{webhook_id}/enable": ADMIN,
    "POST /v1/webhooks/{webhook_id}/rotate": ADMIN,
    "POST /v1/webhooks/{webhook_id}/test": ADMIN,
    "GET /v1/webhooks/{webhook_id}/deliveries": ADMIN,
    "GET /v1/webhooks/{webhook_id}/deliveries/{delivery_id}": ADMIN,
    "POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay": ADMIN,
    "POST /v1/schedules": SUBMIT,
    "GET /v1/schedules": READ,
    "GET /v1/schedules/{schedule}": READ,
    "PATCH /v1/schedules/{schedule}": SUBMIT,
    "DELETE /v1/schedules/{schedule}": SUBMIT,
    "POST /v1/schedules/{schedule}/trigger": SUBMIT,
    "POST /v1/schedules/{schedule}/pause": SUBMIT,
    "POST /v1/schedules/{schedule}/resume": SUBMIT,
    "GET /v1/schedules/{schedule}/fires": READ,
    "POST /internal/v1/gangs/{gang}/ranks/{rank}/hello": WORKER,
    "POST /internal/v1/gangs/{gang}/ranks/{rank}/ready": WORKER,
    "POST /internal/v1/gangs/{gang}/ranks/{rank}/error": WORKER,
    "POST /internal/v1/gangs/{gang}/beat": WORKER,
    "POST /internal/v1/gangs/{gang}/leave": WORKER,
    "POST /internal/v1/gangs/{gang}/recall": WORKER,
    "POST /internal/v1/gangs/{gang}/logs": WORKER,
    "GET /internal/v1/gangs/{gang}/work": WORKER,
    "POST /internal/v1/attempts/{attempt}/finish": WORKER,
    "GET /internal/v1/attempts/{attempt}/word": WORKER,
}
IDS = {
    "request_id": "req_" + "0" * 26,
    "batch_id": "bat_" + "0" * 26,
    "custom_id": "i-1",
    "file_id": "fil_" + "0" * 26,
    "token_id": "tok_" + "0" * 26,
    "webhook_id": "whk_" + "0" * 26,
    "delivery_id": f"msg_req_{'0' * 26}_1",
    "schedule": "sch_" + "0" * 26,
    "gang": "gng_" + "0" * 26,
    "attempt": "att_" + "0" * 26,
    "name": "nothing",
    "rank": "0",
}
OPENS = {Scope.READ: {READ}, Scope.SUBMIT: {SUBMIT}, Scope.ADMIN: {READ, SUBMIT, ADMIN}}


def served() -> set[str]:
    """METHOD /path of every route that the application has."""
    found = set()
    for context in _contexts(described().routes):
        for method in (context.methods or set()) - {"HEAD"}:
            found.add(f"{method} {context.path}")
    return found


def _contexts(routes: Any) -> Iterator[Any]:
    for route in routes:
        if hasattr(route, "effective_route_contexts"):
            yield from route.effective_route_contexts()
        else:
            yield route


def call(client: httpx.Client, route: str, **ids: str) -> httpx.Response:
    method, path = route.split()
    filled = re.sub(r"\{(\w+)\}", lambda match: (IDS | ids)[match[1]], path)
    body = {"json": {}} if method in ("POST", "PUT", "PATCH") else {}
    return client.request(method, filled, **body)  # type: ignore[arg-type]


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert served() == ROUTES.keys()


@pytest.mark.parametrize("route", [route for route, who in ROUTES.items() if who != OPEN])
def test_without_a_token_every_route_says_nothing_but_that(here: Replica, route: str) -> None:
    for token in (None, "mst_unknown"):
        with here.client(token) as nobody:
            answer = call(nobody, route)
            if token and ROUTES[route] == WORKER:
                assert answer.status_code in (401, 404, 409, 410, 422), answer.text
            else:
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), answer.text


@pytest.mark.parametrize("scope", list(OPENS))
@pytest.mark.parametrize("route", [route for route, who in ROUTES.items() if who in (READ, SUBMIT, ADMIN)])
def test_a_token_opens_the_routes_of_its_scope_and_no_other(here: Replica, route: str, scope: Scope) -> None:
    with here.caller(scope) as client:
        answer = call(client, route)
        assert (answer.status_code == 403) == (ROUTES[route] not in OPENS[scope]), answer.text
        assert answer.status_code < 500


@pytest.mark.parametrize("route", [route for route, who in ROUTES.items() if who == WORKER])
def test_no_token_of_a_person_opens_the_worker_api(here: Replica, gang: HttpGang, route: str) -> None:
    with here.caller(*Scope) as person:
        answer = call(person, route, gang=gang.id)
        assert answer.status_code in (401, 404, 409, 410, 422), answer.text
    assert gang.work().status_code == 200


@pytest.fixture(scope="module")
def gang(here: Replica) -> HttpGang:
    return gang_in(here, here.database.transact(make.pool)).begin()


@pytest.mark.parametrize("route", [route for route, who in ROUTES.items() if who in (READ, SUBMIT, ADMIN)])
def test_no_credential_of_a_worker_opens_the_public_api(here: Replica, gang: HttpGang, route: str) -> None:
    for token in (gang.session, gang.gang_token):
        with here.client(token) as worker:
            assert call(worker, route).status_code == 401


# ----------------------------------------------------------------------------------------- whose it is, if it is at all

WEBHOOKS = tuple(f"{method} /v1/webhooks" for method in ("GET", "POST", "DELETE"))
"""Their own tests look at them: endpoints are made only where the operator allows their addresses."""
NAMED = [route for route, who in ROUTES.items() if "{" in route and who in (READ, SUBMIT, ADMIN)]
MALFORMED = {
    "request_id": ["req_x", "req_" + "0" * 25 + "é", "..", "0", "a" * 3000, "req_" + "0" * 26 + "%0a", "%00"],
    "gang": ["a" * 64, "A", "%00", "..%2f", "a%0ab"],
    "name": ["A", "%00", "-", "a" * 41, "..%2fx"],
    "token_id": ["tok_", "%00", "x" * 3000],
    "file_id": ["fil_", "%00", "x" * 3000],
    "webhook_id": ["whk_", "%00", "x" * 3000],
    "batch_id": ["bat_", "%00", "x" * 3000],
    "schedule": ["sch_", "A", "-a", "%00", "a" * 64, "..%2f", "a%0ab"],
}


@pytest.mark.parametrize("route", [route for route in NAMED if not route.startswith("PUT")])
def test_a_malformed_name_is_answered_like_an_unknown_one(here: Replica, route: str) -> None:
    parameter = re.findall(r"\{(\w+)\}", route)[0]
    with here.caller() as client:
        unknown = call(client, route)
        for odd in MALFORMED[parameter]:
            answer = call(client, route, **{parameter: odd})
            if answer.status_code == 404 and answer.json()["detail"] == "Not Found":
                continue  # a slash or dots: another path
            assert answer.status_code in (404, unknown.status_code, 422), (odd, answer.text)
            if unknown.status_code == 404:
                assert (answer.status_code, answer.json()["code"]) == (404, unknown.json()["code"]), (odd, answer.text)
                assert len(answer.content) < 8000


@pytest.mark.parametrize("route", [one for one in NAMED if not one.startswith(("PUT", *WEBHOOKS))])
def test_another_tenants_thing_is_answered_like_an_unknown_one(
    here: Replica, things: dict[str, str], route: str
) -> None:
    (parameter, *_) = re.findall(r"\{(\w+)\}", route)
    with here.caller() as stranger:
        theirs = call(stranger, route, **{parameter: things[parameter]})
        unknown = call(stranger, route)
    assert theirs.status_code == unknown.status_code
    assert theirs.text.replace(things[parameter], "*") == unknown.text.replace(IDS[parameter], "*")


@pytest.fixture(scope="module")
def things(here: Replica) -> dict[str, str]:
    """One of everything, of one tenant."""
    tenant = here.database.transact(make.tenant)
    with here.caller(tenant=tenant) as owner:
        assert owner.put("/v1/templates/mine-alone", json={"handler": "samples.echo:Echo"}).status_code == 200
        pool = here.database.transact(
            lambda tx: next(row for row in make.pools_of(tx, tenant) if row.template == "mine-alone")
        )
        return {
            "name": "mine-alone",
            "request_id": owner.post("/v1/requests", json={"template": "mine-alone"}).json()["id"],
            "file_id": owner.post("/v1/files", content=b"x").json()["id"],
            "token_id": owner.post("/v1/tokens", json={"name": "x", "scopes": ["read"]}).json()["id"],
            "gang": here.database.transact(lambda tx: make.launching(tx, pool)).id,
            "schedule": owner.post(
                "/v1/schedules",
                json={"name": "mine", "cron": "@daily", "runs": {"request": {"template": "mine-alone"}}},
            ).json()["id"],
            "batch_id": here.database.transact(lambda tx: make.batch(tx, pool, 1, tenant=tenant)),
        }
