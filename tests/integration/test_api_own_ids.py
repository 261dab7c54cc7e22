"""PUT /v1/requests/{id}, and what a caller prefers: IDs of one's own, waiting, ETags."""

from __future__ import annotations

from typing import Any

import builders as make
import httpx
import pytest
from races import together
from replica import Replica

from orchestrator.domain.ids import new_id
from orchestrator.store.tokens import Scope


def put(client: httpx.Client, request_id: str, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
    return client.put(f"/v1/requests/{request_id}", json={"template": "echo"} | changes, headers=headers)


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def rows(here: Replica, request_id: str) -> int:
    query = "SELECT count(*) FROM request WHERE id = :id"
    return here.database.transact(lambda tx: make.count(tx, query, id=request_id))


def answered(outcomes: list[httpx.Response | Exception]) -> list[httpx.Response]:
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)], outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, httpx.Response)]


# --------------------------------------------------------------------------------------------------- IDs of one's own


def test_the_same_body_under_the_same_id_is_the_same_request(here: Replica, caller: httpx.Client) -> None:
    mine = new_id("req")
    first, again = put(caller, mine), put(caller, mine)
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"] == mine
    assert first.headers["location"] == f"/v1/requests/{mine}" and first.headers["retry-after"] == "1"
    assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
    caller.post(f"/v1/requests/{mine}/cancel")
    ended = put(caller, mine)
    assert ended.status_code == 200 and ended.json()["status"] == "canceled" and rows(here, mine) == 1


def test_what_was_accepted_stays_accepted_when_its_template_is_gone(caller: httpx.Client) -> None:
    mine = new_id("req")
    put(caller, mine)
    caller.post(f"/v1/requests/{mine}/cancel")
    assert caller.delete("/v1/templates/echo").status_code == 204
    assert put(caller, mine).headers["idempotent-replayed"] == "true"
    refused(put(caller, new_id("req")), 404, "unknown_template")


def test_another_body_under_the_same_id_is_refused(here: Replica, caller: httpx.Client) -> None:
    mine = new_id("req")
    put(caller, mine, input={"text": "a"})
    refused(put(caller, mine, input={"text": "b"}), 422, "request_id_reused")
    assert caller.get(f"/v1/requests/{mine}").json()["input"]["text"] == "a"


def test_an_id_of_another_tenant_is_refused_in_the_words_of_ones_own(here: Replica, caller: httpx.Client) -> None:
    theirs, mine = new_id("req"), new_id("req")
    with here.caller() as other:
        other.put("/v1/templates/echo", json={"handler": "samples.echo:Echo"})
        assert put(other, theirs).status_code == 202
    put(caller, mine, priority=1)
    taken, reused = put(caller, theirs), put(caller, mine)
    refused(taken, 422, "request_id_reused")
    assert taken.text.replace(theirs, mine) == reused.text
    refused(caller.get(f"/v1/requests/{theirs}"), 404, "not_found")


@pytest.mark.parametrize(
    "bad",
    [
        "req_" + "8" + "0" * 25,
        "req_" + "0" * 25,
        "req_" + "0" * 27,
        "req_" + "0" * 25 + "i",
        "req_" + "0" * 25 + "u",
        "req_" + "0" * 25 + "A",
        "gng_" + "0" * 26,
        "0" * 26,
    ],
)
def test_an_id_that_is_no_ulid_is_refused(caller: httpx.Client, bad: str) -> None:
    refused(put(caller, bad), 422, "invalid_input")


def test_many_who_put_the_same_at_once_get_one_request(here: Replica, caller: httpx.Client) -> None:
    mine = new_id("req")
    answers = answered(together([lambda: put(caller, mine)] * 8))
    assert [answer.status_code for answer in answers] == [202] * 8
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1 and rows(here, mine) == 1


def test_of_two_bodies_and_two_tenants_at_once_one_wins(here: Replica, caller: httpx.Client) -> None:
    with here.caller() as other:
        other.put("/v1/templates/echo", json={"handler": "samples.echo:Echo"})
        for _ in range(5):
            one = new_id("req")
            calls = [lambda: put(caller, one), lambda: put(caller, one, priority=1), lambda: put(other, one)]  # noqa: B023
            answers = answered(together([*calls, *calls]))
            won = [answer for answer in answers if answer.status_code == 202]
            assert len(won) == 2 and rows(here, one) == 1
            assert {answer.json()["code"] for answer in answers if answer not in won} == {"request_id_reused"}
            seen = [client.get(f"/v1/requests/{one}").status_code for client in (caller, other)]
            assert sorted(seen) == [200, 404]


def test_putting_takes_the_scope_of_submitting(here: Replica) -> None:
    with here.caller(Scope.READ) as reader:
        refused(put(reader, new_id("req")), 403, "forbidden")


# -------------------------------------------------------------------------------------------------------- preferences


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("respond-async", "respond-async"),
        ("wait=0", None),
        ("wait=1", "wait=1"),
        ('Wait="1"; foo=bar, handling=lenient', "wait=1"),
        ("respond-async, wait=1", "wait=1, respond-async"),
        ("wait=1, wait=20", "wait=1"),
        ("wait=x, return=minimal", None),
        ("wait=-1", None),
        ("waiting=20", None),
        ("wait=٣", None),
    ],
)
def test_a_preference_is_followed_or_left_alone_and_the_answer_says_which(
    caller: httpx.Client, prefer: str, applied: str | None
) -> None:
    answer = caller.post("/v1/requests", json={"template": "echo"}, headers={"Prefer": prefer.encode()})  # type: ignore[dict-item]
    assert answer.status_code == 202 and answer.headers.get("preference-applied") == applied


def test_a_list_of_tags_or_a_star_saves_the_body_as_one_tag_does(caller: httpx.Client) -> None:
    path = f"/v1/requests/{put(caller, new_id('req')).json()['id']}"
    tag = caller.get(path).headers["etag"]
    for said in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
        answer = caller.get(path, headers={"If-None-Match": said})
        assert answer.status_code == 304 and answer.content == b"" and answer.headers["etag"] == tag
    for said in ('"x"', "", tag.replace('"', "")):
        assert caller.get(path, headers={"If-None-Match": said}).status_code == 200
