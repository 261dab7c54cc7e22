"""The pages of batches without a browser: lines that become a batch, who may do what about it, and what comes out."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import builders as make
import httpx
import pages
import pytest
from replica import Replica
from scripted_backend import ScriptedBackend

from orchestrator.backends.places import Places
from orchestrator.loops import batches as batch_loop
from orchestrator.loops.desk import Desk
from orchestrator.store import batch_figures as figures
from orchestrator.store import items, tokens
from orchestrator.store.tokens import Scope

HOSTILE = '"><script>alert(1)</script>\u202egpj'
SCHEMA = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}, "n": {"type": "integer"}}}


class House:
    """A tenant with a template and the browsers of its people."""

    def __init__(self, here: Replica) -> None:
        self.here, self.tenant = here, f"tenant-{secrets.token_hex(6)}"
        here.database.transact(lambda tx: make.tenant(tx, self.tenant))
        self.api = here.caller(tenant=self.tenant)
        spec = {"handler": "samples.echo:Echo", "input": SCHEMA}
        assert self.api.put("/v1/templates/echo", json=spec).status_code == 200

    def token(self, *scopes: Scope) -> str:
        def work(tx: Any) -> str:
            return tokens.create(tx, tenant=self.tenant, name="test", scopes=scopes or tuple(Scope))[1]

        return self.here.database.transact(work)

    def batch(self, number: int = 3, **asked: Any) -> str:
        lines = [json.dumps({"custom_id": f"i-{one}", "input": {"text": "x"}}) for one in range(number)]
        answer = self.api.post(
            "/v1/batches",
            params={"template": "echo", **asked},
            content="\n".join(lines),
            headers={"Content-Type": "application/jsonl"},
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def fail_first(self, batch_id: str) -> None:
        """The first item failed, by a move of the store."""

        def work(tx: Any) -> None:
            row = figures.lock_own(tx, self.tenant, batch_id)
            error = json.dumps({"code": "no_gang", "message": HOSTILE})
            assert items.end_queued(tx, row, "fail", code="no_gang", why=HOSTILE, error=error, limit=1) == 1

        self.here.database.transact(work)

    def close(self, batch_id: str) -> None:
        """Canceled, and over: a pass of the loop."""
        assert self.api.post(f"/v1/batches/{batch_id}/cancel").status_code == 202
        office = self.here.office
        desk = Desk(
            database=office.database, places=Places(ScriptedBackend()), settings=office.settings, wake=office.wake
        )
        batch_loop.run_once(desk)


@pytest.fixture(scope="module")
def house(here: Replica) -> House:
    return House(here)


@pytest.fixture(scope="module")
def browser(here: Replica, house: House) -> Iterator[httpx.Client]:
    with pages.signed_in(here.url, house.token()) as opened:
        yield opened


def send(browser: httpx.Client, lines: Sequence[Any], **asked: str) -> httpx.Response:
    body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return browser.post("/ui/batches/new", params={"template": "echo", **asked}, content=body)


def test_lines_become_a_batch_with_the_terms_of_the_form(browser: httpx.Client, house: House) -> None:
    answer = send(
        browser,
        [{"custom_id": "a", "input": {"text": "x"}}, {"input": {"text": "y", "n": 3}}],
        errors="items",
        max_parallel="2",
        max_failed="10%",
        on_max_failed="pause",
        priority="5",
        expire_after_s="8h",
        labels="team = ads\r\nrun=7",
    )
    assert answer.status_code == 201, answer.text
    batch = house.api.get(f"/v1/batches/{answer.json()['id']}").json()
    assert (batch["counts"]["total"], batch["max_parallel"], batch["max_failed"]) == (2, 2, "10%")
    assert (batch["on_max_failed"], batch["priority"], batch["labels"]) == ("pause", 5, {"team": "ads", "run": "7"})
    shown = browser.get(f"/ui/batches/{batch['id']}").text
    for words in ("line-2", "more than 10% pause it", "team=ads", "Pause", "Cancel"):
        assert words in shown
    assert batch["id"] in browser.get("/ui/batches").text


def test_the_same_form_twice_is_one_batch(browser: httpx.Client) -> None:
    first, second = (send(browser, [{"input": {"text": "x"}}], key="k1").json()["id"] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("lines", "asked", "pointers"),
    [
        ([{"input": {"text": 5}}, "nope", {"input": {"text": "x"}}], {}, ["/lines/1/input/text", "/lines/2"]),
        ([], {}, []),
        (["{}"] * 5000, {}, [f"/lines/{n}/input" for n in range(1, 21)]),
        ([{"input": {"text": "x"}}], {"max_parallel": "many"}, ["/max_parallel"]),
        ([{"input": {"text": "x"}}], {"max_failed": "a few"}, ["/max_failed"]),
        ([{"input": {"text": "x"}}], {"labels": "nothing"}, ["/labels"]),
        ([{"input": {"text": "x"}}], {"expire_after_s": "soon"}, ["/expire_after_s"]),
        ([{"input": {"text": "x"}}], {"file": "fil_" + "0" * 26, "odd": "1"}, ["/odd"]),
    ],
)
def test_what_is_wrong_comes_back_with_its_place_and_nothing_is_stored(
    browser: httpx.Client, house: House, lines: list[Any], asked: dict[str, str], pointers: list[str]
) -> None:
    before = len(house.api.get("/v1/batches?limit=200").json()["data"])
    answer = send(browser, lines, **asked)
    assert (answer.status_code, [one["pointer"] for one in answer.json()["errors"]]) == (422, pointers)
    assert len(house.api.get("/v1/batches?limit=200").json()["data"]) == before


def test_bad_lines_that_are_left_out_are_listed_with_their_number(browser: httpx.Client) -> None:
    answer = send(browser, [{"input": {"text": "x"}}, {"custom_id": "odd", "input": {"text": 5}}], errors="items")
    shown = browser.get(f"/ui/batches/{answer.json()['id']}").text
    assert re.search(r'data-label="Line">2<.*?>odd<.*?is not of type', shown, re.DOTALL)


def test_items_are_paged_and_filtered_by_state(browser: httpx.Client, house: House) -> None:
    batch_id = house.batch(60)
    shown = browser.get(f"/ui/batches/{batch_id}").text
    assert ("i-49<" in shown, "i-50<" in shown) == (True, False)
    following = re.search(r'rel="next" href="([^"#]*)', shown)
    assert following is not None
    later = browser.get(following[1].replace("&amp;", "&")).text
    assert ("i-49<" in later, "i-50<" in later, "i-59<" in later) == (False, True, True)
    assert "No item is failed." in browser.get(f"/ui/batches/{batch_id}?status=failed").text
    assert "i-0<" in browser.get(f"/ui/batches/{batch_id}?status=nonsense").text


def test_a_batch_is_paused_resumed_and_canceled(browser: httpx.Client, house: House) -> None:
    batch_id = house.batch()

    def status() -> str:
        return str(house.api.get(f"/v1/batches/{batch_id}").json()["status"])

    seen = []
    for verb in ("pause", "resume", "cancel"):
        assert browser.post(f"/ui/batches/{batch_id}/{verb}").status_code == 204
        seen.append(status())
    assert seen == ["paused", "queued", "finalizing"]
    refused = browser.post(f"/ui/batches/{batch_id}/pause", headers={"HX-Request": "true"})
    assert (refused.status_code, "hx-trigger" in refused.headers) == (409, True)


def test_a_batch_that_is_over_is_deleted_and_no_other(browser: httpx.Client, house: House) -> None:
    batch_id = house.batch(1)
    refused = browser.post(f"/ui/batches/{batch_id}/delete", headers={"HX-Request": "true"})
    assert refused.status_code == 409
    house.close(batch_id)
    assert browser.post(f"/ui/batches/{batch_id}/delete").headers["location"] == "/ui/batches"
    assert browser.get(f"/ui/batches/{batch_id}").status_code == 404


def test_an_item_that_failed_is_tried_again_and_says_why_as_text(browser: httpx.Client, house: House) -> None:
    batch_id = house.batch()
    house.fail_first(batch_id)
    shown = browser.get(f"/ui/batches/{batch_id}").text
    assert ("items/i-0/retry" in shown, "items/i-1/retry" in shown) == (True, False)
    assert ("<script>alert" in shown, "&lt;script&gt;alert" in shown) == (False, True)
    assert browser.post(f"/ui/batches/{batch_id}/items/i-0/retry").status_code == 204
    assert house.api.get(f"/v1/batches/{batch_id}/items/i-0").json()["status"] == "queued"
    assert browser.post(f"/ui/batches/{batch_id}/items/i-0/retry").status_code == 409
    assert browser.post(f"/ui/batches/{batch_id}/items/none/retry").status_code == 404


def test_what_came_out_is_downloaded_as_the_api_gives_it(browser: httpx.Client, house: House) -> None:
    batch_id = house.batch()
    house.fail_first(batch_id)
    for name in ("results.jsonl", "errors.jsonl"):
        answer = browser.get(f"/ui/batches/{batch_id}/{name}")
        assert answer.text == house.api.get(f"/v1/batches/{batch_id}/{name}").text != ""
        assert answer.headers["content-disposition"] == f'attachment; filename="{batch_id}.{name}"'
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_who_may_only_read_sees_batches_and_changes_none(here: Replica, house: House) -> None:
    batch_id = house.batch()
    house.fail_first(batch_id)
    with pages.signed_in(here.url, house.token(Scope.READ)) as reader:
        shown = reader.get(f"/ui/batches/{batch_id}")
        assert shown.status_code == 200
        for verb in ("pause", "resume", "cancel", "items/i-0/retry"):
            assert verb not in shown.text
            assert reader.post(f"/ui/batches/{batch_id}/{verb}").status_code == 403
        assert reader.get("/ui/batches/new").status_code == 403
        assert send(reader, [{"input": {"text": "x"}}]).status_code == 403
        assert reader.get(f"/ui/batches/{batch_id}/results.jsonl").status_code == 200


def test_a_batch_of_another_tenant_is_none(here: Replica, browser: httpx.Client) -> None:
    theirs = House(here)
    batch_id = theirs.batch()
    theirs.fail_first(batch_id)
    for path in ("", "/results.jsonl", "/errors.jsonl"):
        assert browser.get(f"/ui/batches/{batch_id}{path}").status_code == 404
    for verb in ("pause", "resume", "cancel", "items/i-0/retry"):
        assert browser.post(f"/ui/batches/{batch_id}/{verb}").status_code == 404
    assert batch_id not in browser.get("/ui/batches").text
    assert browser.get("/ui/batches/nothing").status_code == 404


def test_an_empty_list_teaches_and_an_odd_address_shows_the_first_page(here: Replica, browser: httpx.Client) -> None:
    with pages.signed_in(here.url, House(here).token()) as newcomer:
        assert "muster batch submit" in newcomer.get("/ui/batches").text
    assert browser.get("/ui/batches?cursor=nonsense&status=nonsense").status_code == 200
    assert "No batch is expired." in browser.get("/ui/batches?status=expired").text
