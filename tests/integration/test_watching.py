"""What an operator sees of a running replica: log lines and metrics follow its moves, and nobody else reads them."""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builders as make
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from replica import Replica, replica
from sqlalchemy import text

from orchestrator import logs
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope

TEMPLATE = {"handler": "samples.echo:Echo", "pool": {"max": 1}}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The service's log as JSON lines."""
    root = logging.getLogger("muster")
    before = root.handlers, root.level, root.propagate
    stream = io.StringIO()
    logs.configure("json", "debug", stream)
    yield stream
    root.handlers, root.level, root.propagate = before[0], before[1], before[2]


@pytest.fixture
def here(database: Database, tmp_path: Path) -> Iterator[Replica]:
    with replica(database, tmp_path) as running:
        yield running


def numbers(text_format: str, sample: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(value for _, value in sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(text_format)
        for one in family.samples
        if one.name == sample
    }


def lived(here: Replica, caller: httpx.Client) -> dict[str, Any]:
    """One request that waits, is canceled, and another that a gang runs to its end, over HTTP."""
    assert caller.put("/v1/templates/echo", json=TEMPLATE).status_code == 200
    waiting = caller.post("/v1/requests", json={"template": "echo", "input": {"text": "CANARY-input"}})
    assert caller.post(f"/v1/requests/{waiting.json()['id']}/cancel").status_code == 200
    with here.database._engine.begin() as tx:
        pool = tx.execute(text("SELECT * FROM pool WHERE current")).one()
        gang = make.ready(tx, pool)
    taken = caller.post("/v1/requests", json={"template": "echo", "input": {"text": "CANARY-input"}}).json()
    worker = here.client(gang.session)
    lease = worker.get(f"/internal/v1/gangs/{gang.id}/work").json()["work"][0]
    report = {"token": lease["token"], "outcome": "succeeded", "result": "CANARY-result", "run_s": 2.0}
    assert worker.post(f"/internal/v1/attempts/{lease['attempt']}/finish", json=report).status_code == 200
    return {"request": taken["id"], "gang": gang, "lease": lease}


def test_every_move_that_the_replica_committed_is_one_line_and_one_count(here: Replica, log: io.StringIO) -> None:
    caller = here.caller(tenant="default")
    done = lived(here, caller)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = Counter((line["request"], line["action"]) for line in lines if "request" in line)
    with here.database._engine.connect() as tx:
        rows = tx.execute(text("SELECT subject, move FROM event WHERE subject LIKE 'req%'")).all()
    assert told == Counter((row.subject, row.move) for row in rows)
    (last,) = [line for line in lines if line["action"] == "succeed"]
    assert (last["request"], last["gang"], last["attempt"]) == (
        done["request"],
        done["gang"].id,
        done["lease"]["attempt"],
    )
    assert (last["tenant"], last["seconds"], last["incarnation"]) == ("default", 2.0, 1)
    scraped = caller.get("/metrics").text
    assert numbers(scraped, "muster_request_moves_total") == {
        ("record", "echo"): 2,
        ("cancel", "echo"): 1,
        ("assign", "echo"): 1,
        ("succeed", "echo"): 1,
        ("fail", "echo"): 0,
    }
    assert numbers(scraped, "muster_gangs") == {("idle", "echo"): 1}
    assert numbers(scraped, "muster_dispatch_seconds_count") == {(): 1}
    assert numbers(scraped, "muster_http_request_duration_seconds_count")["POST", "/v1/requests", "202"] == 2


def test_neither_log_nor_metrics_hold_a_secret_or_what_a_user_wrote(here: Replica, log: io.StringIO) -> None:
    caller = here.caller(tenant="default")
    done = lived(here, caller)
    token = caller.headers["authorization"].removeprefix("Bearer ")
    seen = log.getvalue() + caller.get("/metrics").text
    assert "succeed" in seen
    for secret in (
        token,
        done["lease"]["token"],
        done["gang"].session,
        done["gang"].token,
        here.database.url,
        "CANARY",
    ):
        assert secret not in seen


def test_what_was_rolled_back_is_not_told(here: Replica, log: io.StringIO) -> None:
    def broken(tx: make.Tx) -> None:
        make.queued(tx, make.pool(tx))
        raise ValueError("after the move")

    with pytest.raises(ValueError, match="after the move"):
        here.office.database.transact(broken)
    here.office.database.transact(lambda tx: tx.execute(text("SELECT 1")))
    assert log.getvalue() == ""


@pytest.mark.parametrize(
    ("who", "status"),
    [
        ({"scopes": (Scope.ADMIN,), "tenant": "default"}, 200),
        ({"scopes": (Scope.READ, Scope.SUBMIT), "tenant": "default"}, 403),
        ({"scopes": (Scope.ADMIN,), "tenant": None}, 403),
    ],
)
def test_only_the_operator_reads_the_metrics(here: Replica, who: dict[str, Any], status: int) -> None:
    assert here.caller(*who["scopes"], tenant=who["tenant"]).get("/metrics").status_code == status
    assert here.client().get("/metrics").status_code == 401


def test_paths_and_methods_that_callers_invent_make_no_series(here: Replica) -> None:
    caller = here.caller(tenant="default")
    for number in range(20):
        caller.get(f"/nothing/{number}")
        caller.request("BREW", f"/v1/requests/{number}")
    routes = {key[1] for key in numbers(caller.get("/metrics").text, "muster_http_request_duration_seconds_count")}
    assert len(routes) <= 3, routes


def test_a_port_of_its_own_gives_the_same_without_a_token(here: Replica) -> None:
    server = here.office.metrics.serve("127.0.0.1", 0)
    try:
        answer = httpx.get(f"http://127.0.0.1:{server.server_port}/metrics")
    finally:
        server.shutdown()
        server.server_close()
    assert answer.status_code == 200 and numbers(answer.text, "muster_database_up") == {(): 1}
