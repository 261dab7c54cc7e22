"""/v1/requests over HTTP: who may, what is accepted, what is answered."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import builders as make
import httpx
import pytest
from races import together
from replica import Replica
from sqlalchemy import text

from orchestrator.api import auth
from orchestrator.api.body import MAX_BODY
from orchestrator.store import tokens
from orchestrator.store.tokens import Scope

SCHEMA = {
    "type": "object",
    "properties": {"digit": {"type": "integer", "minimum": 0, "maximum": 9}, "seed": {"type": "integer", "default": 7}},
    "required": ["digit"],
    "additionalProperties": False,
}
TEMPLATE = {"handler": "samples.digits:Digits", "input": SCHEMA, "pool": {"max": 1}}


@pytest.fixture
def caller(here: Replica) -> Iterator[httpx.Client]:
    """Somebody of a tenant of its own, with the template `digits`."""
    with here.caller() as client:
        assert client.put("/v1/templates/digits", json=TEMPLATE).status_code == 200
        yield client


def submit(client: httpx.Client, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
    body = {"template": "digits", "input": {"digit": 3}} | changes
    return client.post("/v1/requests", json=body, headers=headers)


def refused(answer: httpx.Response, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and body["detail"] and "Traceback" not in answer.text
    if pointer is not None:
        assert body["errors"][0]["pointer"] == pointer


def requests_of(here: Replica) -> int:
    return here.database.transact(lambda tx: make.count(tx, "SELECT count(*) FROM request"))


# ------------------------------------------------------------------------------------------------------------ who may


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Basic abc", "mst_abc", "Bearer mst_unknown", "Bearer a b", "Digest x=1"]
)
def test_without_a_good_token_nothing_is_told(here: Replica, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    with here.client() as client:
        for answer in (
            client.get("/v1/requests", headers=headers),
            client.get(f"/v1/requests/req_{'0' * 26}", headers=headers),
            client.post("/v1/requests", json={}, headers=headers),
            client.post("/v1/requests", content=b"{no json", headers=headers),
            client.post("/v1/requests", content=b"x" * (MAX_BODY + 1), headers=headers),
        ):
            refused(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"


def test_headers_that_a_gateway_would_send_open_nothing(here: Replica) -> None:
    with here.client() as client:
        answer = client.get("/v1/requests", headers={"kubeflow-userid": "ann", "X-Forwarded-User": "ann"})
        refused(answer, 401, "unauthorized")


def test_an_expired_token_is_worthless(here: Replica) -> None:
    with here.caller(expires_in=timedelta(seconds=-1)) as client:
        refused(client.get("/v1/requests"), 401, "unauthorized")


def test_a_token_that_is_about_to_expire_is_not_remembered_for_longer(
    here: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the memory is put forward; the token itself is over before."""
    ahead_s, clock = [0.0], time.monotonic
    monkeypatch.setattr(auth, "time", SimpleNamespace(monotonic=lambda: clock() + ahead_s[0]))
    monkeypatch.setattr(auth, "REMEMBERED_S", 3600.0)
    with here.caller(expires_in=timedelta(seconds=600)) as client:
        assert client.get("/v1/requests").status_code == 200
        over = text("UPDATE token SET expires_at = clock_timestamp() WHERE hash = :hash")
        digest = tokens.digest(client.headers["Authorization"].removeprefix("Bearer "))
        assert here.database.transact(lambda tx: tx.execute(over, {"hash": digest}).rowcount) == 1
        assert client.get("/v1/requests").status_code == 200, "it is remembered"
        ahead_s[0] = 600
        refused(client.get("/v1/requests"), 401, "unauthorized")


def test_a_revoked_token_is_worthless_at_once_where_it_was_revoked(here: Replica, caller: httpx.Client) -> None:
    made = caller.post("/v1/tokens", json={"name": "ci", "scopes": ["read"]})
    assert made.status_code == 201
    with here.client(made.json()["token"]) as other:
        assert other.get("/v1/requests").status_code == 200
        assert caller.delete(f"/v1/tokens/{made.json()['id']}").status_code == 204
        refused(other.get("/v1/requests"), 401, "unauthorized")


def test_a_token_revoked_elsewhere_is_worthless_after_a_few_seconds(
    here: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_S", 0.0)
    tenant = here.database.transact(make.tenant)
    token_id, token = here.database.transact(lambda tx: tokens.create(tx, tenant=tenant, name="x", scopes=[Scope.READ]))
    with here.client(token) as client:
        assert client.get("/v1/requests").status_code == 200
        here.database.transact(lambda tx: tokens.revoke(tx, tenant, token_id))
        refused(client.get("/v1/requests"), 401, "unauthorized")


@pytest.mark.parametrize(
    ("scope", "may"),
    [
        (Scope.READ, {"GET /v1/requests"}),
        (Scope.SUBMIT, {"POST /v1/requests"}),
        (Scope.ADMIN, {"GET /v1/requests", "POST /v1/requests", "GET /v1/tokens", "PUT /v1/templates/x"}),
    ],
)
def test_a_token_opens_what_its_scope_says(here: Replica, scope: Scope, may: set[str]) -> None:
    with here.caller(scope) as client:
        for call in ("GET /v1/requests", "POST /v1/requests", "GET /v1/tokens", "PUT /v1/templates/x"):
            method, path = call.split()
            answer = client.request(method, path, json={})
            assert (answer.status_code == 403) == (call not in may), (call, answer.text)


def test_another_tenants_things_do_not_exist(here: Replica, caller: httpx.Client) -> None:
    mine = submit(caller).json()["id"]
    with here.caller() as stranger:
        for method, path in (
            ("GET", f"/v1/requests/{mine}"),
            ("POST", f"/v1/requests/{mine}/cancel"),
            ("GET", f"/v1/requests/{mine}/events"),
            ("GET", f"/v1/requests/{mine}/logs"),
            ("GET", f"/v1/requests/{mine}/outputs"),
            ("GET", f"/v1/requests/{mine}/outputs/a.gif"),
        ):
            theirs = stranger.request(method, path)
            unknown = stranger.request(method, path.replace(mine, "req_" + "0" * 26))
            refused(theirs, 404, "not_found")
            assert theirs.text.replace(mine, "*") == unknown.text.replace("req_" + "0" * 26, "*")
        assert stranger.get("/v1/requests").json()["data"] == []
        refused(submit(stranger), 404, "unknown_template")
        refused(stranger.get("/v1/templates/digits"), 404, "unknown_template")


# ----------------------------------------------------------------------------------------------------------- submit


def test_an_accepted_request_is_stored_before_it_is_answered(here: Replica, caller: httpx.Client) -> None:
    answer = submit(caller, labels={"team": "ads"}, priority=5, timeout_s=30, mode="warm")
    body = answer.json()
    assert answer.status_code == 202 and answer.headers["location"] == f"/v1/requests/{body['id']}"
    assert (body["status"], body["is_terminal"], body["version"]) == ("queued", False, 1)
    assert body["input"] == {"digit": 3, "seed": 7} and body["labels"] == {"team": "ads"}
    assert body["placement"]["kind"] == "warm" and "position 1" in body["waiting"]
    assert here.database.transact(lambda tx: make.request_row(tx, body["id"])).state == "queued"
    assert caller.get(body["urls"]["self"]).json() == body


GOOD: dict[str, Any] = {"template": "digits", "input": {"digit": 3}}


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        (GOOD | {"priorty": 3}, 422, "invalid_input", "/priorty"),
        (GOOD | {"input": {"digit": 10}}, 422, "invalid_input", "/input/digit"),
        (GOOD | {"input": {"digit": "3"}}, 422, "invalid_input", "/input/digit"),
        (GOOD | {"input": {"digit": True}}, 422, "invalid_input", "/input/digit"),
        (GOOD | {"input": {"digit": 3, "x": 1}}, 422, "invalid_input", "/input"),
        (GOOD | {"input": {}}, 422, "invalid_input", "/input"),
        (GOOD | {"input": []}, 422, "invalid_input", "/input"),
        (GOOD | {"input": None}, 422, "invalid_input", "/input"),
        (GOOD | {"priority": 1001}, 422, "invalid_input", "/priority"),
        (GOOD | {"priority": 1.5}, 422, "invalid_input", "/priority"),
        (GOOD | {"priority": "1"}, 422, "invalid_input", "/priority"),
        (GOOD | {"priority": True}, 422, "invalid_input", "/priority"),
        (GOOD | {"priority": 2**63}, 422, "invalid_input", "/priority"),
        (GOOD | {"timeout_s": 0}, 422, "invalid_input", "/timeout_s"),
        (GOOD | {"timeout_s": -1}, 422, "invalid_input", "/timeout_s"),
        (GOOD | {"timeout_s": 1e12}, 422, "invalid_input", "/timeout_s"),
        (GOOD | {"timeout_s": "PT1H"}, 422, "invalid_input", "/timeout_s"),
        (GOOD | {"expire_queued_after_s": 0}, 422, "invalid_input", "/expire_queued_after_s"),
        (GOOD | {"max_attempts": 0}, 422, "invalid_input", "/max_attempts"),
        (GOOD | {"mode": "cold"}, 422, "invalid_input", "/mode"),
        (GOOD | {"labels": {"a b": "x"}}, 422, "invalid_input", "/labels/a b/[key]"),
        (GOOD | {"labels": {"a": 1}}, 422, "invalid_input", "/labels/a"),
        (GOOD | {"labels": {f"k{n}": "" for n in range(33)}}, 422, "invalid_input", "/labels"),
        (GOOD | {"labels": {"a": "x" * 256}}, 422, "invalid_input", "/labels/a"),
        ({"input": {}}, 422, "invalid_input", "/template"),
        (GOOD | {"template": "unknown"}, 404, "unknown_template", None),
        (GOOD | {"template": "../x"}, 404, "unknown_template", None),
        (GOOD | {"template": "x" * 41}, 422, "invalid_input", "/template"),
        (GOOD | {"template": ""}, 422, "invalid_input", "/template"),
        (None, 422, "invalid_input", None),
        ([], 422, "invalid_input", None),
        ("x", 422, "invalid_input", None),
        (42, 422, "invalid_input", None),
    ],
)
def test_what_does_not_fit_is_refused_with_a_pointer_and_not_stored(
    here: Replica, caller: httpx.Client, body: object, status: int, code: str, pointer: str | None
) -> None:
    before = requests_of(here)
    refused(caller.post("/v1/requests", json=body), status, code, pointer)
    assert requests_of(here) == before


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"", {}, 422, "invalid_input"),
        (b"{", {}, 400, "bad_json"),
        (b"\xef\xbb\xbf{}", {}, 400, "bad_json"),
        ('{"template": "digits"}'.encode("utf-16"), {}, 400, "bad_json"),
        (b'{"template": "digits", "input": {"digit": NaN}}', {}, 400, "bad_json"),
        (b'{"template": "digits", "input": {"digit": 1e400}}', {}, 400, "bad_json"),
        (b'{"template": "digits", "input": {"digit": ' + b"1" * 5000 + b"}}", {}, 400, "bad_json"),
        (b'{"template": "digits", "input": {"digit": ' + b"1" * 300 + b"}}", {}, 422, "invalid_input"),
        (b'{"template": "digits", "input": {"digit": 3, "digit": 4}}', {}, 400, "bad_json"),
        (b'{"template": "digits", "labels": {"a": "\\u0000"}}', {}, 422, "invalid_string"),
        (b'{"template": "digits", "labels": {"a": "\\ud800"}}', {}, 422, "invalid_string"),
        (b'{"template": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}, 400, "bad_json"),
        (b" " * (MAX_BODY + 1), {}, 413, "too_large"),
        (gzip.compress(b" " * MAX_BODY), {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        (b"template=digits", {"Content-Type": "application/x-www-form-urlencoded"}, 422, "invalid_input"),
    ],
)
def test_a_body_that_is_not_plain_json_is_refused(
    here: Replica, caller: httpx.Client, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    before = requests_of(here)
    sent = {"Content-Type": "application/json"} | headers
    refused(caller.post("/v1/requests", content=content, headers=sent), status, code)
    assert requests_of(here) == before


def test_a_body_without_a_length_is_bounded_too(caller: httpx.Client) -> None:
    chunks = (b" " * 65536 for _ in range(17))
    answer = caller.post("/v1/requests", content=chunks, headers={"Content-Type": "application/json"})
    refused(answer, 413, "too_large")


def test_text_that_looks_like_code_is_text(caller: httpx.Client) -> None:
    labels = {"a": "'; drop table request; --", "b": "{{7*7}}${jndi:x}", "c": "\u202e\u200b\x1b[31m"}
    made = submit(caller, labels=labels).json()
    assert caller.get(f"/v1/requests/{made['id']}").json()["labels"] == labels


def test_warm_is_refused_where_the_pool_keeps_no_gangs(caller: httpx.Client) -> None:
    caller.patch("/v1/pools/digits", json={"max": 0})
    refused(submit(caller, mode="warm"), 409, "no_warm_pool")
    assert submit(caller).json()["placement"]["kind"] == "batch"


def test_a_request_may_ask_for_less_than_the_template_allows_but_not_for_more(
    here: Replica, caller: httpx.Client
) -> None:
    for asked, got in ((30, 30), (10_000, 3600), (None, 3600)):
        made = submit(caller, timeout_s=asked, max_attempts=99).json()
        row = here.database.transact(lambda tx, made=made: make.request_row(tx, made["id"]))  # type: ignore[misc]
        assert (row.timeout_s, row.max_attempts) == (got, 5)


# ------------------------------------------------------------------------------------------------------ idempotency


def test_the_same_key_and_body_are_the_same_request(caller: httpx.Client) -> None:
    first, again = (submit(caller, {"Idempotency-Key": "k1"}) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
    refused(submit(caller, {"Idempotency-Key": "k1"}, priority=1), 422, "idempotency_key_reused")


def test_a_key_belongs_to_its_tenant(here: Replica, caller: httpx.Client) -> None:
    mine = submit(caller, {"Idempotency-Key": "k1"}).json()["id"]
    with here.caller() as other:
        other.put("/v1/templates/digits", json=TEMPLATE)
        assert submit(other, {"Idempotency-Key": "k1"}).json()["id"] != mine


def test_a_key_sent_from_everywhere_at_once_makes_one_request(here: Replica, caller: httpx.Client) -> None:
    before = requests_of(here)
    answers = together([lambda: submit(caller, {"Idempotency-Key": "everywhere"})] * 32)
    assert {one.status_code for one in answers if isinstance(one, httpx.Response)} == {202}
    assert len({one.json()["id"] for one in answers if isinstance(one, httpx.Response)}) == 1
    assert sum("idempotent-replayed" in one.headers for one in answers if isinstance(one, httpx.Response)) == 31
    assert requests_of(here) == before + 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "caf\u00e9"])
def test_a_key_that_is_no_key_is_refused(caller: httpx.Client, key: str) -> None:
    answer = caller.post("/v1/requests", json=GOOD, headers={"Idempotency-Key": key.encode()})
    refused(answer, 422, "invalid_input")


def test_a_repeated_submit_finds_its_request_whatever_became_of_the_template(caller: httpx.Client) -> None:
    first = submit(caller, {"Idempotency-Key": "k"}, mode="warm").json()["id"]
    caller.patch("/v1/pools/digits", json={"max": 0})
    assert submit(caller, {"Idempotency-Key": "k"}, mode="warm").json()["id"] == first
    narrow = TEMPLATE | {"input": {"type": "object", "properties": {"digit": {"maximum": 1}}}}
    caller.put("/v1/templates/digits", json=narrow)
    assert submit(caller, {"Idempotency-Key": "k"}, mode="warm").json()["id"] == first
    caller.post(f"/v1/requests/{first}/cancel")
    assert caller.delete("/v1/templates/digits").status_code == 204
    assert submit(caller, {"Idempotency-Key": "k"}, mode="warm").json()["id"] == first
