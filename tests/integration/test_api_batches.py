"""/v1/batches over HTTP: what is taken, what is refused and how, and what a gang and a reader see of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import builders as make
import httpx
import pytest
from http_gang import HttpGang
from races import eventually, together
from replica import Replica, replica
from scripted_backend import ScriptedBackend

from orchestrator.api import manifest
from orchestrator.api.intake import read_named
from orchestrator.backends.places import Places
from orchestrator.loops import batches as batch_loop
from orchestrator.loops import reading
from orchestrator.loops.desk import Desk
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["n"],
    "properties": {
        "n": {"type": "integer", "maximum": 9},
        "image": {"type": ["string", "null"], "format": "muster-file"},
    },
}
TEMPLATE = {"handler": "samples.digits:Digits", "input": SCHEMA, "batch": {"max_gangs": 2}}
JSONL = {"content-type": "application/jsonl"}


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    allowed = tmp_path_factory.mktemp("allowed")
    with replica(shared_database, tmp_path_factory.mktemp("replica"), batch_urls=(allowed.as_uri(),)) as running:
        yield running


@pytest.fixture
def caller(here: Replica) -> Iterator[httpx.Client]:
    with here.caller() as client:
        assert client.put("/v1/templates/digits", json=TEMPLATE).status_code == 200
        yield client


def lines(*inputs: Any) -> bytes:
    return b"".join(
        json.dumps({"custom_id": f"i-{n}", "input": one}).encode() + b"\n" for n, one in enumerate(inputs, 1)
    )


def digits(*numbers: int) -> bytes:
    return lines(*({"n": n} for n in numbers))


def post(client: httpx.Client, content: Any, *, key: str | None = None, **query: Any) -> httpx.Response:
    headers = JSONL | ({"idempotency-key": key} if key else {})
    return client.post("/v1/batches", params={"template": "digits", **query}, content=content, headers=headers)


def submitted(client: httpx.Client, content: bytes, **query: Any) -> dict[str, Any]:
    answer = post(client, content, **query)
    assert answer.status_code == 202, answer.text
    batch: dict[str, Any] = answer.json()
    return batch


def looked(here: Replica) -> None:
    """One pass of the loop."""
    desk = Desk(
        database=here.database, places=Places(ScriptedBackend()), settings=here.office.settings, wake=here.office.wake
    )
    while reading.run_once(desk, partial(read_named, here.database, here.office.settings)):
        pass
    batch_loop.run_once(desk)


def ended(here: Replica, client: httpx.Client, batch_id: str) -> dict[str, Any]:
    def over() -> dict[str, Any] | None:
        looked(here)
        batch: dict[str, Any] = client.get(f"/v1/batches/{batch_id}").json()
        return batch if batch["is_terminal"] else None

    found: dict[str, Any] = eventually(over)
    return found


def stored(here: Replica) -> int:
    return here.database.transact(
        lambda tx: make.count(tx, "SELECT (SELECT count(*) FROM batch) + (SELECT count(*) FROM request)")
    )


def gang_of(here: Replica, batch_id: str) -> HttpGang:
    """A gang of the batch that just became ready."""
    its_pool = make.text("SELECT p.* FROM pool p JOIN batch b ON b.pool_id = p.id WHERE b.id = :b")

    def work(tx: make.Tx) -> make.Gang:
        return make.launching(tx, tx.execute(its_pool, {"b": batch_id}).one(), batch_id=batch_id)

    return HttpGang(here, here.database.transact(work)).begin()


def finish(gang: HttpGang, lease: dict[str, Any], **report: Any) -> dict[str, Any]:
    """What the gang is told to do next."""
    answer = gang.finish(lease, **report)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


# ------------------------------------------------------------------------------------------------------------- accepted


def test_a_batch_is_accepted_as_a_whole_and_described(here: Replica, caller: httpx.Client) -> None:
    answer = post(caller, digits(1, 2, 3), max_parallel=2, max_failed="10%", priority=5, **{"label.team": "red"})
    assert answer.status_code == 202
    batch = answer.json()
    assert answer.headers["location"] == f"/v1/batches/{batch['id']}"
    assert (batch["status"], batch["counts"]["total"], batch["counts"]["queued"]) == ("queued", 3, 3)
    assert (batch["max_parallel"], batch["max_failed"], batch["labels"]) == (2, "10%", {"team": "red"})
    assert caller.get(answer.headers["location"]).json() == batch
    assert [one["id"] for one in caller.get("/v1/batches").json()["data"]] == [batch["id"]]
    assert {"batches", "plan"} <= set(here.rung)


def test_items_are_requests_in_the_order_of_their_lines(caller: httpx.Client) -> None:
    batch = submitted(caller, digits(*[1] * 5))
    first = caller.get(batch["urls"]["items"], params={"limit": 3}).json()
    rest = caller.get(batch["urls"]["items"], params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [one["custom_id"] for one in first["data"] + rest["data"]] == [f"i-{n}" for n in range(1, 6)]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    one = caller.get(f"/v1/requests/{first['data'][0]['id']}").json()
    assert (one["batch"], one["custom_id"], one["input"]) == (batch["id"], "i-1", {"n": 1})
    assert caller.get(f"{batch['urls']['items']}/i-1").json()["id"] == one["id"]
    assert caller.get(batch["urls"]["items"], params={"status": "failed,canceled"}).json()["data"] == []


def test_the_body_may_come_in_pieces_of_any_size(caller: httpx.Client) -> None:
    content = digits(*[n % 10 for n in range(3000)])
    assert submitted(caller, (content[at : at + 777] for at in range(0, len(content), 777)))["counts"]["total"] == 3000  # type: ignore[arg-type]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\n\r\n\n"])
def test_lines_end_as_they_do_elsewhere(caller: httpx.Client, ends: str) -> None:
    content = ends.join(['{"input": {"n": 1}}', '{"input": {"n": 2}}']).encode()
    assert submitted(caller, content)["counts"]["total"] == 2


def test_the_same_key_and_lines_are_the_same_batch(caller: httpx.Client) -> None:
    first, again = (post(caller, digits(1, 2), key="nightly-2026-11-22") for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
    for other in (
        post(caller, digits(1, 3), key="nightly-2026-11-22"),
        post(caller, digits(1, 2), key="nightly-2026-11-22", priority=1),
    ):
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_callers_with_one_key_at_once_make_one_batch(caller: httpx.Client) -> None:
    answers = together([lambda: post(caller, digits(*[1] * 50), key="same")] * 4)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_an_item_may_name_an_upload(caller: httpx.Client) -> None:
    file = caller.post("/v1/files", params={"name": "cat.png"}, content=b"a cat").json()
    batch = submitted(caller, lines({"n": 1, "image": file["id"]}, {"n": 2, "image": file["id"]}))
    assert batch["counts"]["total"] == 2
    missing = post(caller, lines({"n": 1, "image": "fil_00000000000000000000000000"}))
    assert missing.status_code == 422 and missing.json()["errors"][0]["pointer"] == "/lines/1/input/image"


# -------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "empty_batch"),
        (b"\n \r\n\n", 422, "empty_batch"),
        (b'\xef\xbb\xbf{"input": {"n": 1}}', 400, "bad_json"),
        (b'[{"input": {"n": 1}}]', 400, "bad_json"),
        (b'{"input": {"n": 1}} {"input": {"n": 1}}', 400, "bad_json"),
        (b"n\n1\n2\n", 400, "bad_json"),
        (b"\x1f\x8b\x08\x00", 400, "bad_json"),
        (b"x" * ((1 << 20) + 2), 413, "too_large"),
        (digits(1, 2, 10), 422, "invalid_input"),
        (digits(1) * 2, 422, "duplicate_custom_id"),
        (b'{"input": {"n": 1}, "template": "other"}', 422, "invalid_input"),
        (b'{"input": {"n": 1}, "tenant": "other"}', 422, "invalid_input"),
    ],
)
def test_bad_lines_have_the_answer_of_the_page_and_leave_nothing(
    here: Replica, caller: httpx.Client, content: bytes, status: int, code: str
) -> None:
    before = stored(here)
    answer = post(caller, content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert stored(here) == before


def test_too_many_lines_are_413(here: Replica, caller: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MOST_ITEMS", 10)
    before = stored(here)
    answer = post(caller, digits(*[1] * 11))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_items")
    assert stored(here) == before


def test_with_errors_per_item_the_good_lines_run_and_the_bad_ones_are_told(here: Replica, caller: httpx.Client) -> None:
    batch = submitted(caller, digits(1) + b"nonsense\n" + digits(10), errors="items")
    assert (batch["counts"]["total"], batch["counts"]["refused"]) == (1, 2)
    assert [(one["line"], one["code"]) for one in batch["refusals"]] == [(2, "bad_json"), (3, "invalid_input")]
    told = [json.loads(line) for line in caller.get(batch["urls"]["errors"]).text.splitlines()]
    assert [(one["line"], one["status"]) for one in told] == [(2, "refused"), (3, "refused")]


def test_an_upload_that_is_cut_leaves_nothing(here: Replica, caller: httpx.Client) -> None:
    before, content = stored(here), digits(*[1] * 2000)
    url = urlsplit(here.url)
    head = (
        f"POST /v1/batches?template=digits HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/jsonl\r\n"
        f"Authorization: {caller.headers['authorization']}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((url.hostname, url.port)) as line:
        line.sendall(head.encode() + content[: len(content) * 6 // 10])
    assert submitted(caller, digits(1))["counts"]["total"] == 1  # the replica goes on, after it saw the end
    assert stored(here) == before + 2


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"template": "nothing"}, 404),
        ({"colour": "red"}, 422),
        ({"max_failed": "lots"}, 422),
        ({"max_parallel": 0}, 422),
        ({"on_max_failed": "cry"}, 422),
        ({"errors": "none"}, 422),
        ({"label.": "x"}, 422),
    ],
)
def test_bad_parameters_are_refused(caller: httpx.Client, query: dict[str, Any], status: int) -> None:
    assert post(caller, digits(1), **query).status_code == status


def test_other_bodies_are_415(caller: httpx.Client) -> None:
    for headers in ({"content-type": "text/csv"}, JSONL | {"content-encoding": "gzip"}):
        answer = caller.post("/v1/batches", params={"template": "digits"}, content=digits(1), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_tenant_has_only_so_many_batches_open(
    here: Replica, caller: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(caller, digits(1))
    object.__setattr__(here.office.settings, "max_open_batches", 1)
    try:
        answer = post(caller, digits(1))
    finally:
        object.__setattr__(here.office.settings, "max_open_batches", 100)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_batches")


def test_nobody_learns_of_anothers_batch(here: Replica, caller: httpx.Client) -> None:
    batch = submitted(caller, digits(1))
    with here.caller() as other:
        for path in ("", "/items", "/items/i-1", "/results.jsonl", "/errors.jsonl"):
            assert other.get(f"/v1/batches/{batch['id']}{path}").status_code == 404
        for verb in ("cancel", "pause", "resume", "items/i-1/retry"):
            assert other.post(f"/v1/batches/{batch['id']}/{verb}").status_code == 404
        assert other.get("/v1/batches").json()["data"] == []


def test_batches_are_found_by_their_labels(caller: httpx.Client) -> None:
    both = submitted(caller, digits(1), **{"label.night": "22", "label.team": "ads"})["id"]
    one = submitted(caller, digits(1), **{"label.night": "22"})["id"]
    found = {
        query: [each["id"] for each in caller.get(f"/v1/batches?{query}").json()["data"]]
        for query in (
            "label.night=22",
            "label.night=22&label.team=ads",
            "label.team=22",
            "label.night=22&status=failed",
        )
    }
    assert list(found.values()) == [[one, both], [both], [], []]
    first = caller.get("/v1/batches?label.night=22&limit=1").json()
    more = caller.get("/v1/batches", params={"label.night": "22", "limit": "1", "cursor": first["next_cursor"]}).json()
    assert [each["id"] for each in more["data"]] == [both]
    elsewhere = caller.get("/v1/batches", params={"label.night": "23", "cursor": first["next_cursor"]})
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (400, "bad_cursor")


def test_a_reader_may_look_and_not_submit(here: Replica) -> None:
    with here.caller(Scope.READ) as reader:
        assert reader.get("/v1/batches").status_code == 200
        assert post(reader, digits(1)).status_code == 403


# ------------------------------------------------------------------------------------------------------ lines elsewhere


def test_the_lines_of_an_upload_are_looked_at_later(here: Replica, caller: httpx.Client) -> None:
    file = caller.post("/v1/files", params={"name": "batch.jsonl"}, content=digits(1, 2)).json()
    batch = caller.post("/v1/batches", json={"template": "digits", "file": file["id"], "max_parallel": 1}).json()
    assert (batch["status"], batch["source"], batch["counts"]["total"]) == ("validating", file["id"], 0)
    early = caller.post(batch["urls"]["pause"])
    assert (early.status_code, early.json()["code"]) == (409, "batch_validating")
    looked(here)
    batch = caller.get(f"/v1/batches/{batch['id']}").json()
    assert (batch["status"], batch["counts"]["queued"]) == ("queued", 2)


def test_an_upload_with_a_bad_line_fails_and_says_which(here: Replica, caller: httpx.Client) -> None:
    file = caller.post("/v1/files", content=digits(1, 10)).json()
    batch = caller.post("/v1/batches", json={"template": "digits", "file": file["id"]}).json()
    batch = ended(here, caller, batch["id"])
    assert (batch["status"], batch["reason_code"], batch["outcome"]) == ("failed", "refused", "none_succeeded")
    assert [(one["line"], one["code"]) for one in batch["refusals"]] == [(2, "invalid_input")]
    answer = caller.post(f"/v1/batches/{batch['id']}/resume")
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_resume")


def test_storage_is_read_where_the_operator_allows_it(here: Replica, caller: httpx.Client, tmp_path: Path) -> None:
    (allowed,) = here.office.settings.batch_urls
    Path(urlsplit(allowed).path, "batch.jsonl").write_bytes(digits(1, 2, 3))
    batch = caller.post("/v1/batches", json={"template": "digits", "url": f"{allowed}/batch.jsonl"}).json()
    looked(here)
    assert caller.get(f"/v1/batches/{batch['id']}").json()["counts"]["queued"] == 3
    outside = tmp_path / "secret.jsonl"
    outside.write_bytes(digits(1))
    answer = caller.post("/v1/batches", json={"template": "digits", "url": outside.as_uri()})
    assert (answer.status_code, answer.json()["code"]) == (422, "url_not_allowed")


def test_a_source_that_is_not_there_fails_the_batch(here: Replica, caller: httpx.Client) -> None:
    (allowed,) = here.office.settings.batch_urls
    batch = caller.post("/v1/batches", json={"template": "digits", "url": f"{allowed}/none.jsonl"}).json()
    assert ended(here, caller, batch["id"])["reason_code"] == "unreadable"


def test_a_batch_that_was_canceled_before_its_lines_were_looked_at_has_no_items(
    here: Replica, caller: httpx.Client
) -> None:
    file = caller.post("/v1/files", content=digits(1)).json()
    batch = caller.post("/v1/batches", json={"template": "digits", "file": file["id"]}).json()
    assert caller.post(f"/v1/batches/{batch['id']}/cancel").status_code == 202
    assert ended(here, caller, batch["id"])["status"] == "canceled"


@pytest.mark.parametrize(
    "body",
    [
        {"template": "digits"},
        {"template": "digits", "file": "fil_00000000000000000000000000", "url": "file:///x"},
        {"template": "digits", "file": "../../etc/passwd"},
        {"template": "digits", "file": "fil_00000000000000000000000000", "max_failed": 3},
        {"template": "digits", "file": "fil_00000000000000000000000000", "colour": "red"},
        {"file": "fil_00000000000000000000000000"},
        [],
    ],
)
def test_an_order_that_is_none_is_422(caller: httpx.Client, body: Any) -> None:
    assert caller.post("/v1/batches", json=body).status_code == 422


def test_a_file_that_is_not_there_is_404(caller: httpx.Client) -> None:
    body = {"template": "digits", "file": "fil_00000000000000000000000000"}
    assert caller.post("/v1/batches", json=body).status_code == 404


# --------------------------------------------------------------------------------------------------------- run and read


def test_a_gang_gets_item_after_item_with_its_reports_and_leaves_after_the_last(
    here: Replica, caller: httpx.Client
) -> None:
    batch = submitted(caller, digits(1, 2, 3))
    gang = gang_of(here, batch["id"])
    lease = gang.lease()
    seen = [lease["input"]["n"]]
    while (answer := finish(gang, lease, result={"n": lease["input"]["n"]}))["work"]:
        (lease,) = answer["work"]
        seen.append(lease["input"]["n"])
    assert seen == [1, 2, 3] and answer["action"] == "drain"
    batch = ended(here, caller, batch["id"])
    assert (batch["status"], batch["outcome"], batch["counts"]["succeeded"]) == ("completed", "all_succeeded", 3)
    told = [json.loads(line) for line in caller.get(batch["urls"]["results"]).text.splitlines()]
    assert [(one["custom_id"], one["line"], one["status"], one["result"]) for one in told] == [
        (f"i-{n}", n, "succeeded", {"n": n}) for n in (1, 2, 3)
    ]
    assert caller.get(batch["urls"]["errors"]).text == ""


def test_results_are_good_at_any_time_and_errors_can_be_sent_again(here: Replica, caller: httpx.Client) -> None:
    batch = submitted(caller, digits(1, 2, 3))
    gang = gang_of(here, batch["id"])
    (lease,) = finish(gang, gang.lease(), outcome="failed", error={"code": "handler_error", "message": "it broke"})[
        "work"
    ]
    assert [json.loads(line)["custom_id"] for line in caller.get(batch["urls"]["results"]).text.splitlines()] == ["i-1"]
    finish(gang, lease)
    caller.post(batch["urls"]["cancel"])
    here.database.transact(lambda tx: make.gangs.end(tx, gang.id, make.Reason.GANG_LOST, "gone"))
    assert ended(here, caller, batch["id"])["outcome"] == "partial"
    errors = caller.get(batch["urls"]["errors"])
    assert errors.headers["content-type"] == "application/jsonl"
    told = [json.loads(line) for line in errors.text.splitlines()]
    assert [(one["custom_id"], one["status"], one["error"]["code"]) for one in told] == [
        ("i-1", "failed", "handler_error"),
        ("i-3", "canceled", "canceled"),
    ]
    assert submitted(caller, errors.content)["counts"]["total"] == 2


def test_an_item_that_is_sent_again_keeps_its_bounds(here: Replica, caller: httpx.Client) -> None:
    line = {"custom_id": "quick", "input": {"n": 1}, "timeout_s": 30.0, "max_attempts": 1}
    batch = submitted(caller, json.dumps(line).encode())
    caller.post(batch["urls"]["cancel"])
    ended(here, caller, batch["id"])
    (told,) = (json.loads(one) for one in caller.get(batch["urls"]["errors"]).text.splitlines())
    assert {key: told[key] for key in line} == line


def test_results_longer_than_a_page_are_whole_and_in_order(here: Replica, caller: httpx.Client) -> None:
    batch = submitted(caller, digits(*[1] * 1200) + b"nonsense\n", errors="items")
    caller.post(batch["urls"]["cancel"])
    ended(here, caller, batch["id"])
    told = [json.loads(line)["line"] for line in caller.get(batch["urls"]["results"]).text.splitlines()]
    assert told == list(range(1, 1202))


def test_pause_and_resume_and_what_they_refuse(here: Replica, caller: httpx.Client) -> None:
    batch = submitted(caller, digits(1, 2))
    assert caller.post(batch["urls"]["pause"]).json()["status"] == "paused"
    assert caller.post(batch["urls"]["pause"]).json()["status"] == "paused"
    assert caller.post(batch["urls"]["resume"]).json()["status"] == "queued"
    assert caller.post(batch["urls"]["resume"]).json()["status"] == "queued"
    assert caller.post(batch["urls"]["cancel"]).status_code == 202
    assert ended(here, caller, batch["id"])["counts"]["canceled"] == 2
    assert caller.post(batch["urls"]["cancel"]).status_code == 200
    answer = caller.post(batch["urls"]["pause"])
    assert (answer.status_code, answer.json()["code"]) == (409, "batch_over")


def test_a_batch_that_was_canceled_runs_the_rest_when_resumed(here: Replica, caller: httpx.Client) -> None:
    batch = submitted(caller, digits(1, 2, 3))
    gang = gang_of(here, batch["id"])
    lease = gang.lease()
    caller.post(batch["urls"]["pause"])
    assert finish(gang, lease)["action"] == "drain"
    caller.post(batch["urls"]["cancel"])
    ended(here, caller, batch["id"])
    again = caller.post(batch["urls"]["resume"]).json()
    assert (again["status"], again["counts"]["succeeded"], again["counts"]["queued"]) == ("queued", 1, 2)
    assert caller.get(f"{batch['urls']['items']}/i-2").json()["retry_of"] is not None


def test_one_item_is_tried_again_by_name(here: Replica, caller: httpx.Client) -> None:
    batch = submitted(caller, digits(1, 2))
    retry = f"{batch['urls']['items']}/i-1/retry"
    assert caller.post(retry).json()["code"] == "item_not_over"
    item = caller.get(f"{batch['urls']['items']}/i-1").json()
    caller.post(item["urls"]["cancel"])
    answer = caller.post(retry)
    assert answer.status_code == 202 and answer.json()["retry_of"] == item["id"]
    assert caller.get(f"/v1/batches/{batch['id']}").json()["counts"]["queued"] == 2
    assert caller.post(f"{batch['urls']['items']}/nobody/retry").status_code == 404


def test_a_batch_is_deleted_once_it_is_over_and_by_its_tenant_alone(here: Replica, caller: httpx.Client) -> None:
    batch = submitted(caller, digits(1, 2))
    path = batch["urls"]["self"]
    item = caller.get(f"{path}/items/i-1").json()["id"]
    refusal = caller.delete(path)
    assert (refusal.status_code, refusal.json()["code"]) == (409, "not_terminal")
    caller.post(f"{path}/cancel")
    ended(here, caller, batch["id"])
    assert here.caller().delete(path).status_code == 404
    assert caller.delete(path).status_code == 204
    assert [caller.get(path).status_code, caller.delete(path).status_code] == [404, 404]
    assert caller.get(f"/v1/requests/{item}").json()["code"] == "purged"


def test_an_item_is_not_deleted_from_its_batch(here: Replica, caller: httpx.Client) -> None:
    batch = submitted(caller, digits(1))
    item = caller.get(f"{batch['urls']['items']}/i-1").json()
    caller.post(item["urls"]["cancel"])
    answer = caller.delete(item["urls"]["self"])
    assert (answer.status_code, answer.json()["code"]) == (409, "item_of_batch")


def test_items_that_wait_take_nobody_the_room_for_requests(here: Replica, caller: httpx.Client) -> None:
    submitted(caller, digits(*[1] * 20))
    object.__setattr__(here.office.settings, "max_queued", 5)
    try:
        for _ in range(3):
            answer = caller.post("/v1/requests", json={"template": "digits", "input": {"n": 1}, "mode": "batch"})
            assert answer.status_code == 202, answer.text
    finally:
        object.__setattr__(here.office.settings, "max_queued", 50_000)
