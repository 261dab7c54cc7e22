"""Looking, listing, waiting, canceling; templates, pools, gangs and tokens over HTTP."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

import builders as make
import httpx
import pytest
from http_gang import HttpGang, gang_with
from replica import Replica

from orchestrator.store.tokens import Scope


def submit(client: httpx.Client, **changes: Any) -> dict[str, Any]:
    answer = client.post("/v1/requests", json={"template": "echo"} | changes)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def running(here: Replica, client: httpx.Client, **changes: Any) -> tuple[HttpGang, dict[str, Any]]:
    """A request that a gang has just begun."""
    request = submit(client, **changes)
    gang = gang_with(here, request["id"])
    lease = gang.lease()
    assert gang.beat(lease, phase="run", current=1, total=4).status_code == 200
    return gang, lease


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


# ------------------------------------------------------------------------------------------------------ one request


def test_a_running_request_shows_its_progress(here: Replica, caller: httpx.Client) -> None:
    _, lease = running(here, caller)
    shown = caller.get(f"/v1/requests/{lease['request']}").json()
    assert shown["status"] == "running" and shown["waiting"] is None
    progress = shown["progress"]
    assert (progress["phase"], progress["current"], progress["total"], progress["fraction"]) == ("run", 1, 4, 0.25)
    assert shown["placement"]["ranks"] == 1 and shown["attempt"] == 1


def test_an_etag_changes_with_every_move_and_beat_and_saves_the_body_else(here: Replica, caller: httpx.Client) -> None:
    gang, lease = running(here, caller)
    path = f"/v1/requests/{lease['request']}"
    first = caller.get(path).headers["etag"]
    same = caller.get(path, headers={"If-None-Match": first})
    assert same.status_code == 304 and same.content == b"" and same.headers["etag"] == first
    gang.beat(lease, phase="run", current=2, total=4)
    second = caller.get(path, headers={"If-None-Match": first})
    assert second.status_code == 200 and second.headers["etag"] != first
    gang.finish(lease)
    assert caller.get(path).headers["etag"] not in (first, second.headers["etag"])


def test_an_ended_request_is_answered_at_once_however_long_the_wait(here: Replica, caller: httpx.Client) -> None:
    gang, lease = running(here, caller)
    gang.finish(lease)
    answer = caller.get(f"/v1/requests/{lease['request']}?wait=1e9")
    assert answer.json()["status"] == "succeeded" and answer.json()["result"] == {"ok": True}


@pytest.mark.parametrize("wait", ["-1", "nan", "x", "-inf"])
def test_a_wait_that_is_no_time_is_refused(caller: httpx.Client, wait: str) -> None:
    refused(caller.get(f"/v1/requests/req_{'0' * 26}?wait={wait}"), 422, "invalid_input")


def test_the_events_are_every_move_in_order(here: Replica, caller: httpx.Client) -> None:
    gang, lease = running(here, caller)
    gang.finish(lease)
    path = f"/v1/requests/{lease['request']}/events"
    events = caller.get(path).json()["data"]
    assert [event["move"] for event in events] == ["record", "assign", "start", "succeed"]
    assert [event["seq"] for event in events] == [1, 2, 3, 4]
    assert [event["seq"] for event in caller.get(f"{path}?after=2").json()["data"]] == [3, 4]
    refused(caller.get(f"{path}?after={10**30}"), 422, "invalid_input")


def test_the_log_does_not_give_the_lease_away(here: Replica, caller: httpx.Client) -> None:
    _, lease = running(here, caller)
    for path in ("", "/events", "/outputs", "/logs?rank=all"):
        assert lease["token"] not in caller.get(f"/v1/requests/{lease['request']}{path}").text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/requests/req_short",
        "/v1/requests/../../etc/passwd",
        f"/v1/requests/req_{'0' * 26}/outputs/a%00b",
        "/v1/requests?template=%00",
        "/v1/requests?status=%00",
        "/v1/gangs?state=%00",
        "/v1/gangs/gng_%00",
        "/v1/pools/a%00b",
        "/v1/unknown",
        "//v1/requests",
        "/v1/requests/",
    ],
)
def test_a_path_that_names_nothing_is_a_404_or_422_and_never_a_redirect(caller: httpx.Client, path: str) -> None:
    answer = caller.get(path, follow_redirects=False)
    assert answer.status_code in (200, 404, 422), (answer.status_code, answer.text)
    if answer.status_code == 200:
        assert answer.json()["data"] == []


def test_an_output_that_does_not_exist_is_a_404_whatever_its_name(here: Replica, caller: httpx.Client) -> None:
    mine = submit(caller)["id"]
    for name in ("a.gif", "%00", "a%00b", "..%2f..%2fetc%2fpasswd", "%ff", "x" * 255):
        assert caller.get(f"/v1/requests/{mine}/outputs/{name}").status_code in (404, 422)


def test_a_method_that_is_not_offered_says_which_are(caller: httpx.Client) -> None:
    answer = caller.delete("/v1/requests")
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"]


def test_outputs_are_served_as_they_were_published(here: Replica, caller: httpx.Client) -> None:
    gang, lease = running(here, caller)
    content = b"GIF89a"
    file = here.office.settings.folder / "outputs" / lease["output_prefix"].split("/outputs/")[1] / "a b.gif"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    output = {
        "name": "a b.gif",
        "media_type": "image/gif",
        "bytes": len(content),
        "sha256": digest,
        "uri": lease["output_prefix"] + "/a b.gif",
    }
    assert gang.finish(lease, outputs=[output]).status_code == 200
    (shown,) = caller.get(f"/v1/requests/{lease['request']}/outputs").json()["data"]
    whole = caller.get(shown["url"])
    assert whole.content == content and whole.headers["x-checksum-sha256"] == digest
    part = caller.get(shown["url"], headers={"Range": "bytes=0-2"})
    assert part.status_code == 206 and part.content == b"GIF"
    head = caller.head(shown["url"])
    assert head.status_code == 200 and head.content == b"" and head.headers["content-length"] == str(len(content))
    assert caller.get(shown["url"], headers={"If-None-Match": head.headers["etag"]}).status_code == 304
    refused(caller.get(shown["url"], headers={"Range": f"bytes={len(content)}-"}), 416, "range_not_satisfiable")
    file.write_bytes(b"GIF89b!")
    refused(caller.get(shown["url"]), 500, "integrity")


@pytest.mark.parametrize(("asked", "kept_s"), [({}, 7200), ({"output_ttl_s": 60}, 60), ({"output_ttl_s": 9e6}, 7200)])
def test_outputs_say_until_when_they_are_kept_and_are_gone_after_that(
    here: Replica, caller: httpx.Client, asked: dict[str, float], kept_s: float
) -> None:
    caller.put("/v1/templates/echo", json={"handler": "samples.echo:Echo", "limits": {"output_ttl_s": 7200}})
    gang, lease = running(here, caller, **asked)
    output = {"name": "a.gif", "media_type": "image/gif", "bytes": 3, "sha256": "0" * 64}
    assert gang.finish(lease, outputs=[output | {"uri": lease["output_prefix"] + "/a.gif"}]).status_code == 200
    shown = caller.get(f"/v1/requests/{lease['request']}").json()
    until = datetime.fromisoformat(shown["outputs"][0]["expires_at"])
    assert until - datetime.fromisoformat(shown["finished_at"]) == timedelta(seconds=kept_s)

    def expire(tx: make.Tx) -> None:
        tx.execute(make.text("UPDATE output SET expired = true WHERE request_id = :id"), {"id": shown["id"]})

    here.database.transact(expire)
    refused(caller.get(shown["outputs"][0]["url"]), 410, "output_expired")
    (left,) = caller.get(f"/v1/requests/{shown['id']}/outputs").json()["data"]
    assert left["expired"]


# ---------------------------------------------------------------------------------------------------------- cancel


def test_what_waits_is_canceled_at_once_and_again_without_harm(caller: httpx.Client) -> None:
    path = f"/v1/requests/{submit(caller)['id']}"
    for _ in range(2):
        answer = caller.post(f"{path}/cancel")
        assert answer.status_code == 200 and answer.json()["status"] == "canceled"
    assert caller.get(path).json()["version"] == 2


def test_what_runs_is_asked_to_stop(here: Replica, caller: httpx.Client) -> None:
    gang, lease = running(here, caller)
    path = f"/v1/requests/{lease['request']}"
    for _ in range(2):
        answer = caller.post(f"{path}/cancel")
        assert answer.status_code == 202 and answer.json()["status"] == "canceling"
    assert gang.finish(lease, outcome="canceled", result=None).status_code == 200
    assert caller.get(path).json()["status"] == "canceled"


# ---------------------------------------------------------------------------------------- templates, pools and gangs


def test_the_same_template_is_the_same_version_and_another_a_new_one(caller: httpx.Client) -> None:
    put = lambda **changes: caller.put("/v1/templates/echo", json={"handler": "samples.echo:Echo"} | changes).json()  # noqa: E731
    assert put()["version"] == 1 and put(name="echo")["version"] == 1
    assert put(args={"a": 1})["version"] == 2 and put()["version"] == 3
    assert caller.get("/v1/templates/echo").json()["version"] == 3
    assert [one["version"] for one in caller.get("/v1/templates").json()["data"]] == [3]


def test_a_template_must_bear_the_name_of_its_path(caller: httpx.Client) -> None:
    refused(caller.put("/v1/templates/echo", json={"name": "other", "handler": "a:b"}), 422, "invalid_input")
    refused(caller.put("/v1/templates/UPPER", json={"handler": "a:b"}), 422, "invalid_input")


def test_a_template_in_use_is_not_deleted(caller: httpx.Client) -> None:
    waiting = submit(caller)["id"]
    refused(caller.delete("/v1/templates/echo"), 409, "template_in_use")
    caller.post(f"/v1/requests/{waiting}/cancel")
    assert caller.delete("/v1/templates/echo").status_code == 204
    refused(caller.get("/v1/templates/echo"), 404, "unknown_template")
    refused(caller.post("/v1/requests", json={"template": "echo"}), 404, "unknown_template")
    assert caller.put("/v1/templates/echo", json={"handler": "samples.echo:Echo"}).json()["version"] == 2


SCHEMAS: list[dict[str, Any]] = [
    {"$ref": "http://127.0.0.1:9/schema.json"},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "#/$defs/none"},
    {"$ref": "#"},
    {"properties": {"a": {"$ref": "#/properties/a"}}},
    {"$dynamicRef": "#none"},
    {"properties": []},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_schema_that_cannot_be_used_is_refused_and_never_fetched(
    caller: httpx.Client, schema: dict[str, Any]
) -> None:
    put = caller.put("/v1/templates/odd", json={"handler": "a:b", "input": schema})
    if put.status_code != 422:
        assert put.status_code == 200, put.text
        answer = caller.post("/v1/requests", json={"template": "odd", "input": {"a": 1}})
        assert answer.status_code == 422, answer.text


def test_a_pool_shows_and_changes_what_is_kept(caller: httpx.Client) -> None:
    submit(caller)
    shown = caller.get("/v1/pools/echo").json()
    assert (shown["min"], shown["max"], shown["queued"], shown["gangs"]) == (0, 1, 1, {})
    changed = caller.patch("/v1/pools/echo", json={"min": 1, "max": 3, "idle_timeout_s": 60})
    assert (changed.json()["min"], changed.json()["max"], changed.json()["idle_timeout_s"]) == (1, 3, 60)
    assert caller.get("/v1/pools").json()["data"][0]["max"] == 3
    refused(caller.patch("/v1/pools/echo", json={"max": 0}), 422, "invalid_input")
    refused(caller.patch("/v1/pools/echo", json={"maximum": 3}), 422, "invalid_input")
    refused(caller.patch("/v1/pools/none", json={"max": 3}), 404, "unknown_template")


def test_a_gang_shows_its_ranks_and_what_it_does(here: Replica, caller: httpx.Client) -> None:
    gang, lease = running(here, caller)
    shown = caller.get(f"/v1/gangs/{gang.id}").json()
    assert shown["state"] == "busy" and shown["request"] == lease["request"]
    assert [rank["ready"] for rank in shown["ranks"]] == [True]
    assert caller.get(f"/v1/gangs/{shown['name']}").json()["id"] == gang.id
    assert [one["id"] for one in caller.get("/v1/gangs?state=busy").json()["data"]] == [gang.id]
    assert caller.get("/v1/gangs?state=idle").json()["data"] == []
    gang.finish(lease)
    idle = caller.get(f"/v1/gangs/{gang.id}").json()
    assert idle["state"] == "idle" and idle["idle_since"] and idle["served"] == 1
    assert caller.post(f"/v1/gangs/{gang.id}/drain").json()["state"] == "draining"
    refused(caller.get("/v1/gangs/gng_none"), 404, "not_found")


def test_a_pool_is_recycled_with_its_policy_and_drained_without(here: Replica) -> None:
    tenant = here.database.transact(make.tenant)
    caller, reader = here.caller(tenant=tenant), here.caller(Scope.READ, tenant=tenant)
    pool = here.database.transact(lambda tx: make.pool(tx, tenant=tenant, pool={"min": 1, "max": 2}))
    gang = here.database.transact(lambda tx: make.ready(tx, pool))
    assert reader.post(f"/v1/pools/{pool.template}/drain").status_code == 403
    assert caller.post("/v1/pools/nowhere/recycle").json()["code"] == "unknown_template"
    assert [one["id"] for one in caller.post(f"/v1/pools/{pool.template}/recycle").json()["data"]] == [gang.id]
    assert caller.get(f"/v1/pools/{pool.template}").json()["max"] == 2
    assert caller.post(f"/v1/pools/{pool.template}/drain").json()["data"][0]["state"] == "draining"
    assert caller.get(f"/v1/pools/{pool.template}").json()["max"] == 0


def test_tokens_are_shown_once_and_never_again(caller: httpx.Client) -> None:
    made = caller.post("/v1/tokens", json={"name": "ci", "scopes": ["read", "submit"], "expires_in_s": 60}).json()
    listed = caller.get("/v1/tokens")
    assert made["token"].startswith("mst_") and made["token"] not in listed.text
    assert "ci" in [one["name"] for one in listed.json()["data"]]
    refused(caller.delete(f"/v1/tokens/tok_{'0' * 26}"), 404, "not_found")
    for odd in ({"name": "x", "scopes": []}, {"name": "x", "scopes": ["root"]}, {"name": "a\nb", "scopes": ["read"]}):
        refused(caller.post("/v1/tokens", json=odd), 422, "invalid_input")


def test_the_service_says_whether_it_can_work(here: Replica) -> None:
    with here.client() as anybody:
        assert anybody.get("/healthz").json() == {"status": "ok"}
        assert anybody.get("/readyz").json()["status"] == "ok"
        assert "/v1/requests" in anybody.get("/openapi.json").json()["paths"]
        assert "/internal/" not in anybody.get("/openapi.json").text
