"""The list of requests over HTTP: pages, filters, cursors that nobody can make, questions that make no sense."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import builders as make
import httpx
import pytest
from replica import Replica, replica
from sqlalchemy import text

from orchestrator.store import listing
from orchestrator.store.database import Database
from orchestrator.store.listing import Filter, Place


@pytest.fixture
def caller(here: Replica) -> Iterator[httpx.Client]:
    """Somebody of a tenant of its own, with the templates `echo` and `other`."""
    with here.caller() as client:
        for name in ("echo", "other"):
            assert client.put(f"/v1/templates/{name}", json={"handler": "samples.echo:Echo"}).status_code == 200
        yield client


def submit(client: httpx.Client, **changes: Any) -> str:
    answer = client.post("/v1/requests", json={"template": "echo"} | changes)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def ids(client: httpx.Client, **query: Any) -> list[str]:
    answer = client.get("/v1/requests", params=query)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["data"]]


def refused(answer: httpx.Response, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer


# ------------------------------------------------------------------------------------------------------------ pages


def test_pages_follow_each_other_without_gap_or_overlap(caller: httpx.Client) -> None:
    made = [submit(caller) for _ in range(7)]
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = caller.get("/v1/requests", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [one["id"] for one in page["data"]]
        assert page["has_more"] == (page["next_cursor"] is not None)
        cursor, pages = page["next_cursor"], pages + 1
        submit(caller)
    assert seen == made[::-1] and pages == 3


def test_pages_of_a_label_follow_each_other_too(caller: httpx.Client) -> None:
    made = [submit(caller, labels={"team": "ads", "n": str(n)}) for n in range(5)]
    submit(caller, labels={"team": "other"})
    seen: list[str] = []
    query: dict[str, Any] = {"label.team": "ads", "limit": 2}
    while True:
        page = caller.get("/v1/requests", params=query).json()
        seen += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == made[::-1]


# ---------------------------------------------------------------------------------------------------------- filters


def test_a_list_shows_what_was_asked_for(caller: httpx.Client) -> None:
    kept, canceled = submit(caller), submit(caller, template="other", mode="batch", labels={"team": "ads", "by": "ann"})
    caller.post(f"/v1/requests/{canceled}/cancel")
    assert ids(caller, status="queued") == [kept]
    assert ids(caller, status="cancelled") == ids(caller, status="canceled,running") == [canceled]
    assert ids(caller, status="succeeded,failed") == []
    assert ids(caller, template="echo") == ids(caller, pool="echo") == [kept]
    assert ids(caller, template="other", pool="echo") == ids(caller, template="none") == []
    assert ids(caller, mode="batch") == [canceled] and ids(caller, mode="auto") == [kept]
    assert ids(caller, **{"label.team": "ads"}) == ids(caller, **{"label.team": "ads", "label.by": "ann"}) == [canceled]
    assert ids(caller, **{"label.team": "ads", "label.by": "bob"}) == ids(caller, **{"label.none": ""}) == []
    assert ids(caller, **{"label.team": "ads", "status": "canceled", "mode": "batch", "template": "other"}) == [
        canceled
    ]


def test_moments_bound_the_list_on_both_sides(caller: httpx.Client) -> None:
    first, second = submit(caller), submit(caller)
    at = caller.get(f"/v1/requests/{first}").json()["created_at"]
    assert ids(caller, created_after=at) == [second] and ids(caller, created_before=at) == []
    east = datetime.fromisoformat(at).astimezone().isoformat()
    assert ids(caller, created_after=east) == [second]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert ids(caller, created_before=later) == [second, first] and ids(caller, created_after=later) == []
    assert ids(caller, created_after="0001-01-01T00:00:00Z", created_before="9999-12-31T23:59:59Z") == [second, first]


def test_another_tenant_sees_nothing_of_a_label(here: Replica, caller: httpx.Client) -> None:
    submit(caller, labels={"team": "ads"})
    with here.caller() as other:
        assert ids(other, **{"label.team": "ads"}) == ids(other) == []


MOMENTS = [
    "2026-01-01T00:00:00",
    "2026-01-01",
    "infinity",
    "-infinity",
    "now",
    "300000-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-01-01T24:00:01Z",
    "2026-01-01T00:00:00+99:99",
    "2026-01-01T00:00:00 00:00",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-00:01",
    "1767225600",
    "२०२६-01-01T00:00:00Z",
    "\x00",
    "",
]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", ["created_after", "created_before"])
def test_what_is_no_moment_with_a_zone_is_refused(caller: httpx.Client, name: str, moment: str) -> None:
    refused(caller.get("/v1/requests", params={name: moment}), 422, "invalid_input", f"/{name}")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("status=sleeping", "/status"),
        ("status=queued,", "/status"),
        ("mode=fast", "/query/mode"),
        ("limit=0", "/query/limit"),
        ("limit=201", "/query/limit"),
        ("limit=x", "/query/limit"),
        ("cursor=" + "x" * 401, "/query/cursor"),
        ("label.=x", "/label."),
        ("label.a%00b=x", "/label.a\x00b"),
        ("label.a=%00", "/label.a"),
        ("label.a=" + "x" * 256, "/label.a"),
        ("&".join(f"label.k{n}=v" for n in range(9)), "/label"),
        ("status=queued&status=running", "/status"),
        ("label.a=1&label.a=2", "/label.a"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(caller: httpx.Client, query: str, pointer: str) -> None:
    refused(caller.get(f"/v1/requests?{query}"), 422, "invalid_input", pointer)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/requests?colour=red",
        "/v1/requests?Status=queued",
        "/v1/requests?labels.team=ads",
        f"/v1/requests/req_{'0' * 26}?waits=1",
        f"/v1/requests/req_{'0' * 26}/events?since=1",
        f"/v1/requests/req_{'0' * 26}/outputs?x",
        "/v1/templates?limit=1",
        "/v1/pools/echo?x=1",
        "/v1/gangs?status=idle",
        "/v1/tokens?x=",
        f"/v1/files/fil_{'0' * 26}?name=a",
    ],
)
def test_a_parameter_that_a_path_does_not_know_is_refused_everywhere(caller: httpx.Client, path: str) -> None:
    refused(caller.get(path), 422, "unknown_parameter")


def test_a_write_with_an_unknown_parameter_changes_nothing(caller: httpx.Client) -> None:
    refused(caller.post("/v1/requests?dry_run=1", json={"template": "echo"}), 422, "unknown_parameter")
    assert ids(caller) == []


# ---------------------------------------------------------------------------------------------------------- cursors


def cursor_of(client: httpx.Client, **query: Any) -> str:
    for _ in range(2):
        submit(client, labels={"team": "ads"})
    return str(client.get("/v1/requests", params={"limit": 1} | query).json()["next_cursor"])


def test_a_cursor_is_good_for_any_page_size_and_for_its_question_only(caller: httpx.Client) -> None:
    cursor = cursor_of(caller, status="queued")
    assert len(ids(caller, status="queued", limit=200, cursor=cursor)) == 1
    for other in ({}, {"status": "running"}, {"status": "queued", "template": "echo"}, {"label.team": "ads"}):
        refused(caller.get("/v1/requests", params={**other, "cursor": cursor}), 400, "bad_cursor")


def test_a_cursor_of_another_tenant_is_worthless(here: Replica, caller: httpx.Client) -> None:
    cursor = cursor_of(caller)
    with here.caller() as other:
        refused(other.get("/v1/requests", params={"cursor": cursor}), 400, "bad_cursor")


def test_a_cursor_is_good_on_every_replica(
    here: Replica, caller: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cursor = cursor_of(caller)
    token = caller.headers["Authorization"].removeprefix("Bearer ")
    with replica(here.database, tmp_path_factory.mktemp("other")) as there, there.client(token) as elsewhere:
        assert len(ids(elsewhere, cursor=cursor)) == 1


def test_a_cursor_that_was_changed_anywhere_is_refused(caller: httpx.Client) -> None:
    cursor = cursor_of(caller)
    changed = [cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(0, len(cursor), 7)]
    forged = [base64.urlsafe_b64encode(b"\0" * 16 + json.dumps(said).encode()).decode() for said in FORGED]
    for bad in [*changed, cursor[:-1], cursor[1:], cursor + "AAAA", "x", "%", "\x00", "é", "😀", "", *forged]:
        refused(caller.get("/v1/requests", params={"cursor": bad}), 400, "bad_cursor")


FORGED: list[Any] = [
    ["2026-01-01T00:00:00+00:00", "req_" + "0" * 26],
    ["infinity", "x"],
    [1, 2],
    {},
    [],
    None,
]


# ---------------------------------------------------------------------------------------------------------- indexes


MANY = """
INSERT INTO pool (id, tenant, template, version, spec, min_gangs, max_gangs, idle_timeout_s)
  VALUES ('p', 'many', 'echo', 1, '{}', 0, 1, 1);
INSERT INTO request (id, tenant, template, template_version, pool_id, mode, placement, placement_reason, due_at, state,
                     max_attempts, max_crashes, body_digest, timeout_s, created_at, finished_at, next_check_at)
  SELECT 'req_' || lpad(n::text, 26, '0'), 'many', CASE WHEN n % 1000 = 0 THEN 'rare' ELSE 'echo' END, 1, 'p',
         CASE WHEN n % 1000 = 1 THEN 'batch' ELSE 'auto' END, 'warm', '', now(),
         CASE n % 1000 WHEN 2 THEN 'failed' WHEN 3 THEN 'queued' ELSE 'succeeded' END, 1, 1, '', 1,
         now() - n * interval '1 second', CASE WHEN n % 1000 = 3 THEN NULL ELSE now() END,
         CASE WHEN n % 1000 = 3 THEN now() ELSE NULL END
  FROM generate_series(1, 40000) n;
INSERT INTO payload (request_id, input) SELECT id, '{}' FROM request WHERE tenant = 'many';
INSERT INTO request_label (tenant, key, value, created_at, request_id)
  SELECT tenant, 'team', 'ads', created_at, id FROM request WHERE tenant = 'many' AND id LIKE '%007';
ANALYZE;
"""


@pytest.fixture(scope="module")
def many(shared_database: Database) -> Iterator[make.Tx]:
    """Forty thousand requests of one tenant, rolled back at the end."""
    with shared_database._engine.connect() as tx:
        for statement in filter(str.strip, MANY.split(";\n")):
            tx.execute(text(statement))
        yield tx
        tx.rollback()


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(),
        Filter(states=("queued", "running")),
        Filter(states=("failed",)),
        Filter(template="rare"),
        Filter(pool="rare"),
        Filter(mode="batch"),
        Filter(labels={"team": "ads"}),
        Filter(created_before=datetime(2000, 1, 1, tzinfo=UTC)),
    ],
)
def test_every_filter_alone_looks_at_few_rows_however_many_there_are(many: make.Tx, wanted: Filter) -> None:
    place = Place(created_at=datetime.now(UTC).isoformat(), id="req_z")
    rows = listing.page(many, "many", wanted, before=place, limit=20)
    assert len(rows) == (0 if wanted.created_before else 20)
    before = _read(many)
    listing.page(many, "many", wanted, before=place, limit=20)
    assert _read(many) - before < 500


def _read(tx: make.Tx) -> int:
    """Index entries and rows of `request` that this transaction has read so far."""
    return int(
        tx.execute(
            text("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'request'")
        ).scalar_one()
    )
