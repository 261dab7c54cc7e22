"""/v1/schedules over HTTP: what is taken, what is refused and how, and what is shown of ticks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from races import together
from replica import Replica, replica
from scripted_backend import ScriptedBackend
from sqlalchemy import text

from orchestrator.api import firing
from orchestrator.backends.places import Places
from orchestrator.loops import ticks
from orchestrator.loops.desk import Desk
from orchestrator.store.database import Database

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["n"],
    "properties": {"n": {"type": "integer"}, "date": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"}},
}
KEYS = ("k" * 32,)
TEMPLATE = {"handler": "samples.digits:Digits", "input": SCHEMA}
RUNS = {"request": {"template": "digits", "input": {"n": 3}}}
NIGHTLY = {"name": "nightly", "cron": "0 2 * * *", "timezone": "Europe/Berlin", "runs": RUNS}


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    allowed = tmp_path_factory.mktemp("allowed")
    with replica(
        shared_database, tmp_path_factory.mktemp("replica"), batch_urls=(allowed.as_uri(),), webhook_keys=KEYS
    ) as running:
        yield running


@pytest.fixture
def caller(here: Replica) -> Iterator[httpx.Client]:
    with here.caller() as client:
        assert client.put("/v1/templates/digits", json=TEMPLATE).status_code == 200
        yield client


def made(client: httpx.Client, **changes: Any) -> dict[str, Any]:
    answer = client.post("/v1/schedules", json=NIGHTLY | changes)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/schedules/{shown['id']}"
    return shown


def passes(here: Replica) -> None:
    """One pass of the loop, now."""
    settings = here.office.settings
    desk = Desk(database=here.database, places=Places(ScriptedBackend()), settings=settings, wake=here.office.wake)
    ticks.run_once(desk, partial(firing.start, settings))


def turned_back(here: Replica, schedule_id: str, by: timedelta) -> None:
    """As if it had been made so long ago and nobody had looked since."""

    def work(tx: Any) -> None:
        for change in (
            "schedule SET minted_until = minted_until - :by, next_check_at = clock_timestamp() WHERE id = :id",
            "schedule_version SET since = since - :by WHERE schedule_id = :id",
        ):
            tx.execute(text(f"UPDATE {change}"), {"id": schedule_id, "by": by})

    here.database.transact(work)


def test_the_next_five_fires_are_shown_on_save(caller: httpx.Client) -> None:
    shown = made(caller)
    fires = [datetime.fromisoformat(one) for one in shown["next_fires"]]
    assert len(fires) == 5 and fires == sorted(fires) and shown["last_fire"] is None
    assert shown["state"] == "active" and shown["version"] == 1 and shown["runs"] == RUNS


def test_leap_days_are_taken_and_shown(caller: httpx.Client) -> None:
    assert made(caller, cron="0 0 29 2 *", timezone="UTC")["next_fires"][0] == "2028-02-29T00:00:00Z"


def test_it_is_found_by_id_and_by_name_and_listed_by_name(caller: httpx.Client) -> None:
    shown = made(caller)
    other = made(caller, name="a-first")
    assert caller.get("/v1/schedules/nightly").json()["id"] == shown["id"]
    assert caller.get(f"/v1/schedules/{shown['id']}").json()["name"] == "nightly"
    assert [one["id"] for one in caller.get("/v1/schedules").json()["data"]] == [other["id"], shown["id"]]


def test_another_tenants_schedule_is_not_there(here: Replica, caller: httpx.Client) -> None:
    shown = made(caller)
    with here.caller() as stranger:
        for ref in (shown["id"], "nightly"):
            assert stranger.get(f"/v1/schedules/{ref}").json()["code"] == "not_found"
            assert stranger.patch(f"/v1/schedules/{ref}", json={"cron": "0 3 * * *"}).status_code == 404
            assert stranger.post(f"/v1/schedules/{ref}/trigger").status_code == 404
            assert stranger.delete(f"/v1/schedules/{ref}").status_code == 404


REFUSALS: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "random minute": ({"cron": "R * * * *"}, "invalid_input", "/cron"),
    "seconds": ({"cron": "0 0 2 * * *"}, "invalid_input", "/cron"),
    "wrapped range": ({"cron": "5-1 * * * *"}, "invalid_input", "/cron"),
    "at boot": ({"cron": "@reboot"}, "invalid_input", "/cron"),
    "never": ({"cron": "0 0 30 2 *"}, "never_fires", "/cron"),
    "ended": ({"end_at": "2020-01-01T00:00:00Z"}, "never_fires", "/end_at"),
    "zone": ({"timezone": "Mars/Base"}, "invalid_input", "/timezone"),
    "path as zone": ({"timezone": "../../etc/passwd"}, "invalid_input", "/timezone"),
    "short zone": ({"timezone": "EST5EDT"}, "invalid_input", "/timezone"),
    "no zone": ({"timezone": ""}, "invalid_input", "/timezone"),
    "naive time": ({"start_at": "2026-11-22T02:00:00"}, "invalid_input", "/start_at"),
    "infinite time": ({"end_at": "infinity"}, "invalid_input", "/end_at"),
    "the end of time": ({"start_at": "9999-12-31T23:59:59-10:00"}, "invalid_input", "/start_at"),
    "long ago": ({"start_at": "0001-01-01T00:00:00+10:00"}, "invalid_input", "/start_at"),
    "far away": ({"start_at": "9999-01-01T00:00:00Z"}, "invalid_input", "/start_at"),
    "end before start": (
        {"start_at": "2036-01-02T00:00:00Z", "end_at": "2036-01-01T00:00:00Z"},
        "invalid_input",
        "/end_at",
    ),
    "overlap": ({"overlap": "forbid"}, "invalid_input", "/overlap"),
    "grace": ({"grace_s": 1}, "invalid_input", "/grace_s"),
    "a truth as a number": ({"grace_s": True}, "invalid_input", "/grace_s"),
    "jitter": ({"jitter_s": 3601}, "invalid_input", "/jitter_s"),
    "unknown field": ({"tz": "UTC"}, "invalid_input", "/tz"),
    "name": ({"name": "Nightly!"}, "invalid_input", "/name"),
    "nothing to run": ({"runs": {}}, "invalid_input", "/runs"),
    "two to run": ({"runs": RUNS | {"batch": {"template": "digits", "url": "s3://x/y"}}}, "invalid_input", "/runs"),
    "input": ({"runs": {"request": {"template": "digits"}}}, "invalid_input", "/runs/request/input"),
    "template": ({"runs": {"request": {"template": "other"}}}, "unknown_template", None),
    "text template": (
        {"runs": {"request": {"template": "digits", "input": {"n": "{{tick}}"}}}}, "invalid_input",
        "/runs/request/input/n",
    ),
    "inject of a wrong type": ({"inject": {"/input/n": "scheduled_at"}}, "invalid_input", "/runs/request/input/n"),
    "inject of no word": ({"inject": {"/input/date": "now"}}, "invalid_input", "/inject/~1input~1date"),
    "inject elsewhere": ({"inject": {"/template": "scheduled_at"}}, "invalid_input", "/inject/~1template/[key]"),
    "inject of no input": ({"inject": {"/input/when": "scheduled_at"}}, "invalid_input", "/runs/request/input"),
    "inject too deep": ({"inject": {"/input/n/x": "scheduled_at"}}, "invalid_input", "/inject"),
    "url": ({"runs": {"batch": {"template": "digits", "url": "s3://x/y"}}}, "url_not_allowed", "/runs/batch/url"),
    "webhook": (
        {"runs": {"request": {"template": "digits", "input": {"n": 1}, "webhook": {"url": "http://10.0.0.1"}}}},
        "webhook_url_refused", "/runs/request/webhook/url",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_could_never_run_is_refused_at_save_and_leaves_nothing(caller: httpx.Client, case: str) -> None:
    changes, code, pointer = REFUSALS[case]
    answer = caller.post("/v1/schedules", json=NIGHTLY | changes)
    assert (answer.status_code, answer.json()["code"]) == (404 if code == "unknown_template" else 422, code), (
        answer.text
    )
    assert [one["pointer"] for one in answer.json()["errors"]][:1] == ([] if pointer is None else [pointer]), (
        answer.text
    )
    assert caller.get("/v1/schedules").json()["data"] == []


@pytest.mark.parametrize("case", [case for case, (changes, _, _) in REFUSALS.items() if "name" not in changes])
def test_a_change_is_held_to_the_same(caller: httpx.Client, case: str) -> None:
    changes, code, _ = REFUSALS[case]
    before = made(caller)
    answer = caller.patch("/v1/schedules/nightly", json=changes)
    assert answer.json()["code"] == code, answer.text
    assert caller.get("/v1/schedules/nightly").json() == before


def test_values_of_the_first_tick_are_held_against_the_schema(caller: httpx.Client) -> None:
    assert made(caller, inject={"/input/date": "scheduled_date"})["inject"] == {"/input/date": "scheduled_date"}


def test_a_name_is_taken_once(caller: httpx.Client) -> None:
    answers = together([lambda: caller.post("/v1/schedules", json=NIGHTLY) for _ in range(4)])
    codes = sorted(one.status_code for one in answers if isinstance(one, httpx.Response))
    assert codes == [201, 409, 409, 409]


def test_a_change_makes_a_version_and_what_is_not_named_stays(caller: httpx.Client) -> None:
    made(caller, overlap="queue", inject={"/input/date": "scheduled_date"})
    changed = caller.patch(
        "/v1/schedules/nightly", json={"cron": "@hourly", "end_at": "2036-01-01T00:00:00+01:00"}
    ).json()
    assert (changed["version"], changed["cron"], changed["overlap"]) == (2, "@hourly", "queue")
    assert changed["end_at"] == "2035-12-31T23:00:00Z" and changed["runs"] == RUNS
    same = caller.patch("/v1/schedules/nightly", json={"cron": "@hourly"}).json()
    assert same["version"] == 2, "nothing is different"
    back = caller.patch("/v1/schedules/nightly", json={"end_at": None, "overlap": None}).json()
    assert (back["end_at"], back["overlap"]) == (None, "skip")
    assert caller.patch("/v1/schedules/nightly", json={"cron": None}).json()["errors"][0]["pointer"] == "/cron"


def test_changes_at_the_same_time_all_count(caller: httpx.Client) -> None:
    made(caller)
    changes = [{"grace_s": 60 + n} for n in range(4)]
    answers = together([lambda one=one: caller.patch("/v1/schedules/nightly", json=one) for one in changes])
    assert [one.status_code for one in answers if isinstance(one, httpx.Response)] == [200] * 4, answers
    assert caller.get("/v1/schedules/nightly").json()["version"] == 5


def test_readers_do_not_see_where_a_webhook_leads(here: Replica) -> None:
    with here.caller() as caller:
        caller.put("/v1/templates/digits", json=TEMPLATE)
        assert caller.post("/v1/webhooks/secret", json={}).status_code == 201
        hook = {"url": "https://hooks.example.com/a-secret"}
        runs = {"request": RUNS["request"] | {"webhook": hook}}
        shown = made(caller, runs=runs)
        assert shown["runs"]["request"]["webhook"] == {"url": "hidden"}
        assert caller.patch("/v1/schedules/nightly", json={"cron": "0 3 * * *"}).json()["version"] == 2
        run = caller.post("/v1/schedules/nightly/trigger").json()["request"]
        (heard,) = caller.get("/v1/webhooks", params={"request": run}).json()["data"]
        assert heard["url"] == hook["url"]


def test_a_trigger_runs_at_once_also_while_paused_and_beside_what_runs(caller: httpx.Client) -> None:
    made(caller, paused=True)
    fired = [caller.post("/v1/schedules/nightly/trigger") for _ in range(2)]
    assert [one.status_code for one in fired] == [202, 202], fired[0].text
    first = caller.get(f"/v1/requests/{fired[0].json()['request']}").json()
    assert first["input"] == {"n": 3} and first["labels"]["muster/schedule"] == "nightly"
    listed = caller.get("/v1/schedules/nightly/fires").json()
    assert [one["triggered"] for one in listed["data"]] == [True, True] and len(listed["next_fires"]) == 5


def test_a_trigger_that_cannot_run_is_refused_and_is_no_fire(caller: httpx.Client) -> None:
    made(caller)
    assert caller.delete("/v1/templates/digits").status_code == 204
    assert caller.post("/v1/schedules/nightly/trigger").json()["code"] == "unknown_template"
    assert caller.get("/v1/schedules/nightly/fires").json()["data"] == []


def test_past_ticks_are_shown_page_by_page_with_what_became_of_them(here: Replica, caller: httpx.Client) -> None:
    shown = made(caller, cron="* * * * *", timezone="UTC")
    turned_back(here, shown["id"], timedelta(minutes=7))
    passes(here)
    first = caller.get("/v1/schedules/nightly/fires", params={"limit": 3}).json()
    rest = caller.get("/v1/schedules/nightly/fires", params={"cursor": first["next_cursor"]}).json()
    fires = [*first["data"], *rest["data"]]
    assert len(first["data"]) == 3 and first["has_more"] and not rest["has_more"] and len(fires) in (7, 8)
    assert {one["state"] for one in fires[:-1]} == {"skipped"} and fires[-1]["state"] == "ran"
    assert {one["reason_code"] for one in fires[:-1]} == {"overlap"}
    assert fires[-1]["request"] in fires[0]["reason"]
    refused = caller.get("/v1/schedules", params={"cursor": first["next_cursor"]})
    assert refused.json()["code"] == "unknown_parameter"
    made(caller, name="other")
    foreign = caller.get("/v1/schedules/other/fires", params={"cursor": first["next_cursor"]})
    assert (foreign.status_code, foreign.json()["code"]) == (400, "bad_cursor")


def test_pause_and_resume_are_safe_to_repeat(caller: httpx.Client) -> None:
    made(caller)
    for _ in range(2):
        assert caller.post("/v1/schedules/nightly/pause").json()["state"] == "paused"
    for _ in range(2):
        assert caller.post("/v1/schedules/nightly/resume").json()["state"] == "active"


def test_a_schedule_that_is_removed_leaves_what_it_started(caller: httpx.Client) -> None:
    made(caller)
    run = caller.post("/v1/schedules/nightly/trigger").json()["request"]
    assert caller.delete("/v1/schedules/nightly").status_code == 204
    assert caller.get("/v1/schedules/nightly").status_code == 404
    assert caller.get(f"/v1/requests/{run}").json()["status"] == "queued"
    made(caller)


def test_a_tenant_has_a_bound_of_schedules(caller: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.schedules.MOST", 1)
    made(caller)
    answer = caller.post("/v1/schedules", json=NIGHTLY | {"name": "other"})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_schedules")
