"""What may be asked of an ended request: the same again, or nothing of it any more; and the dry run of a new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import builders as make
import httpx
import pytest
from http_gang import HttpGang, gang_with
from races import together
from replica import Replica, replica
from scripted_backend import ScriptedBackend
from sqlalchemy import text

from orchestrator.backends.places import Places
from orchestrator.client import Client
from orchestrator.domain.ids import new_id
from orchestrator.loops import purge, schedule
from orchestrator.loops.desk import Desk
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope

SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "default": "hello"},
        "image": {"type": "string", "format": "muster-file"},
    },
    "additionalProperties": False,
}
TEMPLATE = {"handler": "samples.echo:Echo", "input": SCHEMA}


@pytest.fixture
def here(database: Database, tmp_path: Path) -> Iterator[Replica]:
    with replica(database, tmp_path) as running:
        yield running


@pytest.fixture
def caller(here: Replica) -> Iterator[httpx.Client]:
    with here.caller() as client:
        assert client.put("/v1/templates/echo", json=TEMPLATE).status_code == 200
        yield client


def submit(client: httpx.Client, **changes: Any) -> str:
    answer = client.post("/v1/requests", json={"template": "echo"} | changes)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def canceled(client: httpx.Client, **changes: Any) -> str:
    request = submit(client, **changes)
    assert client.post(f"/v1/requests/{request}/cancel").status_code == 200
    return request


def succeeded(here: Replica, client: httpx.Client, **changes: Any) -> tuple[str, Path, HttpGang]:
    """A request with one output, the file, and the gang that lives on."""
    request = submit(client, **changes)
    gang = gang_with(here, request)
    lease = gang.lease()
    gang.beat(lease, phase="run", current=1, total=4)
    chunk = {"seq": 1, "request": request, "at": 1.0, "text": "a secret\n"}
    gang.call("POST", f"/gangs/{gang.id}/logs", {"rank": 0, "chunks": [chunk]})
    file = here.office.settings.folder / "outputs" / lease["output_prefix"].split("/outputs/")[1] / "a.gif"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"GIF89a")
    sha256 = "f1a0a3b0f1b0b3a0" * 4
    output = {"name": "a.gif", "media_type": "image/gif", "bytes": 6, "sha256": sha256}
    answer = gang.finish(lease, outputs=[{**output, "uri": lease["output_prefix"] + "/a.gif"}])
    assert answer.status_code == 200, answer.text
    return request, file, gang


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def count(here: Replica, query: str, **values: Any) -> int:
    return here.database.transact(lambda tx: make.count(tx, query, **values))


# -------------------------------------------------------------------------------------------------------------- retry


def test_a_retry_is_a_new_request_that_asks_for_the_same(caller: httpx.Client) -> None:
    asked = {
        "input": {"text": "hi"},
        "mode": "batch",
        "priority": 3,
        "timeout_s": 7.5,
        "expire_queued_after_s": 31 * 86400,
        "max_attempts": 2,
        "output_ttl_s": 60,
        "labels": {"team": "ads"},
    }
    old = canceled(caller, **asked)
    answer = caller.post(f"/v1/requests/{old}/retry")
    assert answer.status_code == 202 and answer.headers["location"] == f"/v1/requests/{answer.json()['id']}"
    new, before = answer.json(), caller.get(f"/v1/requests/{old}").json()
    assert new["id"] != old and new["retry_of"] == old and before["status"] == "canceled"
    same = ("template", "input", "mode", "priority", "max_attempts", "labels")
    assert [new[name] for name in same] == [before[name] for name in same]


def test_a_retry_runs_on_the_current_version_of_its_template(caller: httpx.Client) -> None:
    old = canceled(caller)
    caller.put("/v1/templates/echo", json={**TEMPLATE, "args": {"a": 1}})
    assert caller.post(f"/v1/requests/{old}/retry").json()["template_version"] == 2


def test_a_retry_whose_input_does_not_fit_any_more_is_refused(caller: httpx.Client) -> None:
    old = canceled(caller)
    caller.put("/v1/templates/echo", json={**TEMPLATE, "input": {"properties": {"text": {"type": "integer"}}}})
    refused(caller.post(f"/v1/requests/{old}/retry"), 422, "invalid_input")
    caller.delete("/v1/templates/echo")
    refused(caller.post(f"/v1/requests/{old}/retry"), 404, "unknown_template")


def test_what_has_not_ended_is_not_retried(caller: httpx.Client) -> None:
    refused(caller.post(f"/v1/requests/{submit(caller)}/retry"), 409, "not_terminal")


def test_the_same_key_gives_the_same_retry_and_is_shared_with_no_other_path(caller: httpx.Client) -> None:
    one, other, key = canceled(caller), canceled(caller), {"Idempotency-Key": "k"}
    first, again = (caller.post(f"/v1/requests/{one}/retry", headers=key) for _ in range(2))
    assert first.json()["id"] == again.json()["id"] and again.headers["idempotent-replayed"] == "true"
    refused(caller.post(f"/v1/requests/{other}/retry", headers=key), 422, "idempotency_key_reused")
    body = {"template": "echo", "input": {"text": "hello"}}
    refused(caller.post("/v1/requests", json=body, headers=key), 422, "idempotency_key_reused")


def test_another_tenants_request_is_neither_retried_nor_deleted(here: Replica, caller: httpx.Client) -> None:
    old = canceled(caller)
    with here.caller() as other:
        refused(other.post(f"/v1/requests/{old}/retry"), 404, "not_found")
        refused(other.delete(f"/v1/requests/{old}"), 404, "not_found")
    assert caller.get(f"/v1/requests/{old}").status_code == 200


# ------------------------------------------------------------------------------------------------------------- delete


def desk(here: Replica) -> Desk:
    own = here.office.settings
    return Desk(database=here.database, places=Places(ScriptedBackend()), settings=own, wake=lambda **_: None)


def later(here: Replica, seconds: float) -> None:
    """As if that time had passed since everything that is purged was."""
    query = (
        "UPDATE purged SET purged_at = purged_at - :s * interval '1 second',"
        " remove_at = remove_at - :s * interval '1 second'"
    )
    here.database.transact(lambda tx: tx.execute(text(query), {"s": seconds}))


HOLDS_TEXT = (
    "SELECT (SELECT count(*) FROM payload) + (SELECT count(*) FROM result) + (SELECT count(*) FROM progress)"
    " + (SELECT count(*) FROM log_chunk) + (SELECT count(*) FROM output) + (SELECT count(*) FROM request_label)"
    " + (SELECT count(*) FROM request) + (SELECT count(*) FROM event WHERE subject LIKE 'req_%')"
    " + (SELECT count(*) FROM rank_error) + (SELECT count(*) FROM attempt WHERE reason IS NOT NULL)"
)


def test_nothing_of_a_deleted_request_is_left_but_that_it_was(here: Replica, caller: httpx.Client) -> None:
    request, file, gang = succeeded(here, caller, labels={"team": "ads"})
    served = caller.get(f"/v1/gangs/{gang.id}").json()["served"]
    answer = caller.delete(f"/v1/requests/{request}")
    assert answer.status_code == 204 and answer.content == b"" and count(here, HOLDS_TEXT) == 0
    for path in ("", "/events", "/logs", "/outputs", "/outputs/a.gif"):
        refused(caller.get(f"/v1/requests/{request}{path}"), 410, "purged")
    refused(caller.delete(f"/v1/requests/{request}"), 410, "purged")
    refused(caller.post(f"/v1/requests/{request}/cancel"), 410, "purged")
    refused(caller.post(f"/v1/requests/{request}/retry"), 410, "purged")
    assert caller.get("/v1/requests").json()["data"] == []
    assert caller.get(f"/v1/gangs/{gang.id}").json()["served"] == served == 1
    assert file.exists()
    later(here, 11)
    assert purge.run_once(desk(here)).did == {"purged": [request]}
    assert not file.parent.parent.exists() and file.parents[2].exists()


def test_what_a_rank_writes_after_the_end_goes_an_hour_later(here: Replica, caller: httpx.Client) -> None:
    request, file, _ = succeeded(here, caller)
    caller.delete(f"/v1/requests/{request}")
    later(here, 11)
    assert purge.run_once(desk(here)) and not purge.run_once(desk(here))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"late")
    later(here, 3600)
    assert purge.run_once(desk(here)).did == {"purged": [request]} and not file.exists()
    later(here, 3600)
    assert not purge.run_once(desk(here))


def test_a_file_that_an_open_request_names_stays_until_that_has_ended(here: Replica, caller: httpx.Client) -> None:
    request, file, _ = succeeded(here, caller)
    user = submit(caller, input={"image": f"{request}/a.gif"}, mode="batch")
    caller.delete(f"/v1/requests/{request}")
    later(here, 11)
    assert not purge.run_once(desk(here)) and file.exists()
    caller.post(f"/v1/requests/{user}/cancel")
    assert purge.run_once(desk(here)) and not file.exists()


def test_files_that_cannot_be_removed_are_tried_again(
    here: Replica, caller: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, file, _ = succeeded(here, caller)
    caller.delete(f"/v1/requests/{request}")
    later(here, 11)
    with monkeypatch.context() as broken:
        broken.setattr("fsspec.implementations.local.LocalFileSystem.rm", lambda *_, **__: 1 / 0)
        assert not purge.run_once(desk(here)) and file.exists()
    assert purge.run_once(desk(here)) and not file.exists()


def test_what_has_not_ended_is_not_deleted(here: Replica, caller: httpx.Client) -> None:
    request = submit(caller)
    refused(caller.delete(f"/v1/requests/{request}"), 409, "not_terminal")
    assert caller.get(f"/v1/requests/{request}").json()["status"] == "queued"


def test_an_id_that_was_deleted_is_never_used_again(caller: httpx.Client) -> None:
    mine = new_id("req")
    body = {"template": "echo"}
    caller.put(f"/v1/requests/{mine}", json=body)
    caller.post(f"/v1/requests/{mine}/cancel")
    assert caller.delete(f"/v1/requests/{mine}").status_code == 204
    refused(caller.put(f"/v1/requests/{mine}", json=body), 422, "request_id_reused")
    refused(caller.get(f"/v1/requests/{mine}"), 410, "purged")


def test_of_many_who_delete_at_once_one_does(here: Replica, caller: httpx.Client) -> None:
    request, _, _ = succeeded(here, caller)
    answers = together([lambda: caller.delete(f"/v1/requests/{request}")] * 6)
    statuses = sorted(answer.status_code for answer in answers if isinstance(answer, httpx.Response))
    assert statuses == [204, 410, 410, 410, 410, 410]


def test_a_gang_of_its_own_ends_though_its_request_was_deleted_before(here: Replica, caller: httpx.Client) -> None:
    request = submit(caller, mode="batch")

    def launch(tx: make.Tx) -> str:
        pool = tx.execute(
            text("SELECT p.* FROM pool p JOIN request r ON r.pool_id = p.id WHERE r.id = :r"), {"r": request}
        )
        return make.ready(tx, pool.one(), request_id=request).id

    gang = here.database.transact(launch)
    caller.post(f"/v1/requests/{request}/cancel")
    assert caller.delete(f"/v1/requests/{request}").status_code == 204
    assert schedule.run_once(desk(here)).did == {"drained": [gang]}


def test_deleting_and_retrying_take_the_scope_of_submitting(here: Replica) -> None:
    with here.caller(Scope.READ) as reader:
        for answer in (
            reader.delete(f"/v1/requests/{new_id('req')}"),
            reader.post(f"/v1/requests/{new_id('req')}/retry"),
        ):
            refused(answer, 403, "forbidden")


# ----------------------------------------------------------------------------------------------------------- validate


def validate(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/v1/requests:validate", json={"template": "echo"} | changes)


def test_a_dry_run_says_what_would_become_of_a_request_and_stores_nothing(here: Replica, caller: httpx.Client) -> None:
    answer = validate(caller, timeout_s=5, max_attempts=100).json()
    assert answer["template_version"] == 1 and answer["input"] == {"text": "hello"}
    assert answer["placement"]["kind"] == "warm" and "the pool may grow" in answer["placement"]["reason"]
    assert answer["starts_in_s"] is None and answer["timeout_s"] == 5 and answer["max_attempts"] == 5
    assert validate(caller, mode="batch").json()["placement"]["kind"] == "batch"
    assert count(here, "SELECT count(*) FROM request") == 0


def test_a_dry_run_guesses_the_start_from_experience(here: Replica, caller: httpx.Client) -> None:
    succeeded(here, caller)
    assert validate(caller).json()["starts_in_s"] == 0
    assert validate(caller, mode="batch").json()["starts_in_s"] > 0


def test_a_dry_run_refuses_what_a_submit_would_refuse_in_the_same_words(caller: httpx.Client) -> None:
    caller.patch("/v1/pools/echo", json={"max": 0})
    for body in (
        {"input": {"text": 1}},
        {"input": {"other": 1}},
        {"input": {"image": "fil_" + "0" * 26}},
        {"template": "none"},
        {"mode": "warm"},
        {"mode": "fast"},
        {"colour": "red"},
        {"labels": {"a b": "c"}},
    ):
        refusal = validate(caller, **body)
        submitted = caller.post("/v1/requests", json={"template": "echo"} | body)
        assert refusal.status_code == submitted.status_code and refusal.json() == submitted.json()
        assert refusal.status_code in (404, 409, 422)


def test_a_dry_run_does_not_prolong_the_files_that_it_looks_at(here: Replica, caller: httpx.Client) -> None:
    file = caller.post("/v1/files?name=a.gif", content=b"GIF").json()
    assert validate(caller, input={"image": file["id"]}).status_code == 200
    assert caller.get(f"/v1/files/{file['id']}").json()["expires_at"] == file["expires_at"]


def test_the_client_retries_deletes_and_validates(here: Replica, caller: httpx.Client) -> None:
    token = caller.headers["Authorization"].removeprefix("Bearer ")
    with closing(Client(here.url, token)) as muster:
        request = canceled(caller)
        assert muster.retry(request).retry_of == request
        muster.delete(request)
        muster.delete(request)
        assert muster.validate("echo", {"text": "x"}).input == {"text": "x"}
