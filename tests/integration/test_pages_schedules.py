"""Schedules as pages, without a browser: made, changed, triggered; refused with what is wrong beside the field."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import builders as make
import pytest
from replica import Replica, replica
from scheduled import House
from sqlalchemy import text
from visitors import Visitor, words

from orchestrator.domain.schedules import Policy
from orchestrator.store import schedules
from orchestrator.store.database import Database, Record
from orchestrator.store.tokens import Scope
from orchestrator.web.schedules import rules

EVIL = '"><script>alert(1)</script>'
SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string", "maxLength": 20}, "steps": {"type": "integer", "minimum": 1}},
    "required": ["text"],
}


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    batches = (f"{tmp_path_factory.mktemp('batches').as_uri()}/",)
    with replica(shared_database, tmp_path_factory.mktemp("home"), batch_urls=batches) as running:
        yield running


@pytest.fixture
def owner(here: Replica) -> Visitor:
    return Visitor(here)


@pytest.fixture
def template(owner: Visitor) -> str:
    pool = owner.transact(lambda tx: make.pool(tx, tenant=owner.tenant, input=SCHEMA))
    return str(pool.template)


def filled(template: str, **changes: str) -> dict[str, str]:
    return {
        "name": "nightly",
        "cron": "0 2 * * *",
        "timezone": "Europe/Berlin",
        "kind": "request",
        "template": template,
        "in/text": "hello",
        "overlap": "queue",
        "misfire": "skip",
        "grace_s": "30m",
        **changes,
    }


def made(owner: Visitor, template: str, **changes: str) -> Record:
    answer = owner.post("/schedules/_new", **filled(template, **changes))
    assert answer.status_code == 204, words(answer.text)
    row: Record = owner.transact(lambda tx: schedules.get(tx, owner.tenant, changes.get("name", "nightly")))
    return row


def ran(owner: Visitor, row: Record) -> list[Any]:
    query = text("SELECT * FROM schedule_fire WHERE schedule_id = :id ORDER BY tick")
    return list(owner.transact(lambda tx: tx.execute(query, {"id": row.id}).all()))


def test_without_schedules_the_page_says_what_they_are_and_how_to_begin(owner: Visitor) -> None:
    page = owner.get("/schedules")
    assert "muster schedule create nightly" in page
    assert 'href="/ui/schedules/_new"' in page


def test_a_schedule_is_made_by_form_and_shown(owner: Visitor, template: str) -> None:
    row = made(owner, template, **{"in/steps": "3", "labels": "team=ads"})
    assert row.runs == {
        "request": {"template": template, "input": {"text": "hello", "steps": 3}, "labels": {"team": "ads"}}
    }
    assert (row.policy["overlap"], row.policy["misfire"], row.policy["grace_s"]) == ("queue", "skip", 1800)
    page = words(owner.get("/schedules/nightly"))
    assert "At 02:00, every day" in page
    assert page.count("02:00 CE") == 5
    assert "nightly" in owner.get("/schedules")
    assert "nightly" in owner.get("/")


@pytest.mark.parametrize(
    ("field", "said", "marked"),
    [
        ("cron", "every day", "cron"),
        ("cron", "0 0 30 2 *", "cron"),
        ("timezone", "Mars/Olympus", "timezone"),
        ("name", "Not A Name", "name"),
        ("template", "nowhere", "template"),
        ("in/text", "longer than twenty characters", "f-0"),
        ("grace_s", "soon", "grace_s"),
        ("end_at", "tomorrow", "end_at"),
        ("priority", "9999", "priority"),
        ("inject", "/output/x=scheduled_at", "inject"),
        ("overlap", "explode", None),
        ("start_at", EVIL, "start_at"),
    ],
)
def test_what_cannot_be_comes_back_as_typed_and_nothing_is_made(
    owner: Visitor, template: str, field: str, said: str, marked: str | None
) -> None:
    answer = owner.post("/schedules/_new", **{**filled(template), field: said})
    assert answer.status_code == 422
    assert "Not saved" in answer.text
    assert "<script>alert" not in answer.text
    if marked is not None:
        assert f'id="{marked}-wrong"' in answer.text
    assert owner.transact(lambda tx: schedules.list_all(tx, owner.tenant)) == []


def test_a_batch_is_scheduled_by_where_its_lines_are(here: Replica, owner: Visitor, template: str) -> None:
    refused = owner.post("/schedules/_new", **filled(template, kind="batch", source="s3://elsewhere/lines.jsonl"))
    assert 'id="source-wrong"' in refused.text
    source = f"{here.office.settings.batch_urls[0]}lines.jsonl"
    row = made(owner, template, kind="batch", source=source)
    assert row.runs == {"batch": {"template": template, "url": source}}
    assert source in owner.get("/schedules/nightly")


def test_a_name_that_is_taken_is_said_beside_the_name(owner: Visitor, template: str) -> None:
    made(owner, template)
    answer = owner.post("/schedules/_new", **filled(template))
    assert 'id="name-wrong"' in answer.text


def test_editing_keeps_what_stands_in_no_field(owner: Visitor, template: str) -> None:
    row = made(owner, template)
    kept = "UPDATE schedule_version SET runs = jsonb_set(runs, '{request,output_ttl_s}', '60') WHERE schedule_id = :id"
    owner.transact(lambda tx: tx.execute(text(kept), {"id": row.id}))
    assert 'value="0 2 * * *"' in owner.get(f"/schedules/{row.id}/edit")
    changed = filled(template, cron="30 4 * * mon", **{"in/text": "other"})
    assert owner.post(f"/schedules/{row.id}/edit", **changed).status_code == 204
    now = owner.transact(lambda tx: schedules.get(tx, owner.tenant, row.id))
    assert now.version == 2
    assert now.policy["cron"] == "30 4 * * mon"
    assert now.runs["request"] == {"template": template, "input": {"text": "other"}, "output_ttl_s": 60}


def test_saving_what_was_not_changed_makes_no_version(owner: Visitor, template: str) -> None:
    row = made(owner, template)
    assert owner.post(f"/schedules/{row.id}/edit", **filled(template)).status_code == 204
    assert owner.transact(lambda tx: schedules.get(tx, owner.tenant, row.id)).version == 1


def test_it_is_triggered_paused_resumed_and_deleted(owner: Visitor, template: str) -> None:
    row = made(owner, template)
    assert owner.post("/schedules/nightly/trigger").status_code == 204
    (fire,) = ran(owner, row)
    page = owner.get("/schedules/nightly")
    assert f"/ui/requests/{fire.request_id}" in page
    assert "by hand" in page
    assert owner.post("/schedules/nightly/pause").status_code == 204
    assert "While it is paused" in owner.get("/schedules/nightly")
    assert owner.post("/schedules/nightly/resume").status_code == 204
    assert owner.post("/schedules/nightly/delete").headers["hx-redirect"] == "/ui/schedules"
    owner.get("/schedules/nightly", 404)


def test_a_skipped_tick_says_why_and_older_ones_are_a_page_away(here: Replica, tmp_path: Path) -> None:
    house = House(here.database, tmp_path)
    paused = house.make("0 * * * *", paused=True)
    house.at(timedelta(hours=30))
    house.retire()
    visitor = Visitor(here, tenant="default")
    page = visitor.get(f"/schedules/{paused}")
    assert page.count("the schedule was paused") == 25
    older = page.split("?at=")[1].split("#")[0]
    assert visitor.get(f"/schedules/{paused}?at={older}").count("the schedule was paused") == 5


def test_a_reader_looks_and_changes_nothing(here: Replica, owner: Visitor, template: str) -> None:
    reader, stranger = Visitor(here, Scope.READ, tenant=owner.tenant), Visitor(here)
    row = made(owner, template)
    assert "hx-post" not in reader.get("/schedules/nightly").split("<main")[1]
    for path in ("trigger", "pause", "resume", "delete", "edit"):
        assert reader.post(f"/schedules/{row.id}/{path}").status_code == 403
        assert stranger.post(f"/schedules/{row.id}/{path}").status_code == 404
    assert reader.post("/schedules/_new", **filled(template)).status_code == 403
    reader.get("/schedules/_new", 403)
    stranger.get(f"/schedules/{row.id}", 404)
    assert template not in stranger.get("/schedules")


def test_the_preview_says_what_a_rule_means_while_it_is_typed(owner: Visitor) -> None:
    shown = owner.post("/schedules/_preview", cron="*/15 9-17 * * mon-fri", timezone="Asia/Tokyo").text
    assert "Every 15 minutes, between 09:00 and 17:59, Monday through Friday" in words(shown)
    assert shown.count("JST") == 5
    assert "is no minute" in words(owner.post("/schedules/_preview", cron="x * * * *").text)
    assert owner.post("/schedules/_preview").status_code == 200


def test_the_fields_follow_the_template_and_the_kind(owner: Visitor, template: str) -> None:
    assert 'name="in/text"' in owner.post("/schedules/_runs", kind="request", template=template).text
    assert 'name="source"' in owner.post("/schedules/_runs", kind="batch", template=template).text
    assert "not there" in owner.post("/schedules/_runs", kind="request", template="nowhere").text


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("@daily", "At 00:00, every day"),
        ("* * * * *", "Every minute"),
        ("0 0 1 * mon", "At 00:00, on day 1 of the month, or on Monday"),
        ("0 0 */2 * mon", None),
        ("30 2 * * 7", "At 02:30, only on Sunday"),
    ],
)
def test_a_rule_is_told_in_words_unless_they_would_be_wrong(cron: str, said: str | None) -> None:
    assert rules.in_words(cron) == said


def test_where_no_words_are_told_both_day_fields_must_hold() -> None:
    ticks = Policy(cron="0 0 */2 * mon").next(datetime(2026, 11, 1, tzinfo=UTC), 3)
    assert all(tick.weekday() == 0 and tick.day % 2 == 1 for tick in ticks)
