"""Every route and every page, asked by one tenant for the things of another: as if there were none, and nothing moves.

A route or page that is new is asked here too: nothing is listed by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gateway_matrix import IDS, _pages
from integration.test_pages_requests import House
from integration.test_scopes import OPEN, ROUTES, WORKER
from replica import Replica, replica
from sqlalchemy import text
from visitors import Visitor

from orchestrator.store.database import Database, Tx

CANARY = "kanarienvogel"


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    with replica(shared_database, tmp_path_factory.mktemp("apart"), webhook_keys="k" * 64) as running:
        yield running


@pytest.fixture(scope="module")
def theirs(here: Replica) -> tuple[str, dict[str, str]]:
    """A tenant that has one of everything, and the IDs of it."""
    house = House(here)
    made = dict(IDS)

    def post(path: str, **said: Any) -> dict[str, Any]:
        answer = house.api.post(path, **said)
        assert answer.status_code in (200, 201, 202), answer.text
        return dict(answer.json())

    made["request_id"] = house.published({f"{CANARY}.txt": ("text/plain", CANARY.encode())})
    made["file_id"] = post("/v1/files?name=kanarienvogel.txt", content=CANARY.encode())["id"]
    line = json.dumps({"custom_id": CANARY, "input": {"text": CANARY}})
    jsonl = {"Content-Type": "application/jsonl"}
    made["batch_id"] = post("/v1/batches?template=echo", content=line, headers=jsonl)["id"]
    runs = {"request": {"template": "echo", "input": {"text": CANARY}}}
    made["schedule"] = post("/v1/schedules", json={"name": CANARY, "cron": "0 3 * * *", "runs": runs})["id"]
    made["token_id"] = post("/v1/tokens", json={"name": CANARY, "scopes": ["read"]})["id"]
    made["webhook_id"] = post("/v1/webhooks", json={"url": f"https://{CANARY}.example/x"})["id"]
    assert house.gang is not None
    made["gang"] = here.database.look(lambda tx: tx.execute(_GANG, {"tenant": house.tenant}).scalar_one())
    made |= {"custom_id": CANARY, "name": "echo"}
    return house.tenant, made


_GANG = text("SELECT g.id FROM gang g JOIN pool p ON p.id = g.pool_id WHERE p.tenant = :tenant LIMIT 1")


def filled(path: str, ids: dict[str, str]) -> str:
    """Outputs are named by the canary, everything else that has a name is `echo`."""
    path = path.replace("/outputs/{name}", f"/outputs/{CANARY}.txt").replace(
        "/previews/{name}", f"/previews/{CANARY}.txt"
    )
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda match: ids.get(match[1], "x"), path)


def asked(client: httpx.Client, method: str, path: str) -> tuple[int, str]:
    body = {"json": {}} if method in ("POST", "PUT", "PATCH") else {}
    with client.stream(method, path, **body) as answer:
        if "event-stream" not in answer.headers.get("content-type", ""):
            return answer.status_code, answer.read().decode("utf-8", "replace")
        said = ""
        for part in answer.iter_text():  # a board says `gone` and ends; all else would have to say something first
            said += part
            if "event: " in said:
                break
        return answer.status_code, said


def standing(tx: Tx, tenant: str) -> Any:
    """What could have moved."""
    queries = (
        "SELECT id, state, version FROM request WHERE tenant = :t ORDER BY id",
        "SELECT id, state, version FROM batch WHERE tenant = :t ORDER BY id",
        "SELECT id, version, paused_at, ended_at FROM schedule WHERE tenant = :t ORDER BY id",
        "SELECT id, revoked_at FROM token WHERE tenant = :t ORDER BY id",
        "SELECT template, min_gangs, max_gangs FROM pool WHERE tenant = :t ORDER BY id",
        "SELECT g.id, g.state FROM gang g JOIN pool p ON p.id = g.pool_id WHERE p.tenant = :t ORDER BY g.id",
    )
    return [[tuple(row) for row in tx.execute(text(query), {"t": tenant})] for query in queries]


def routes() -> list[str]:
    return sorted(route for route, who in ROUTES.items() if who not in (OPEN, WORKER))


def test_no_route_and_no_page_tells_or_moves_anything_of_another_tenant(
    here: Replica, theirs: tuple[str, dict[str, str]]
) -> None:
    tenant, ids = theirs
    before = here.database.look(lambda tx: standing(tx, tenant))
    api, visitor = here.caller(), Visitor(here)
    api.event_hooks = {}
    told = []
    for client, listed in ((api, routes()), (visitor.http, sorted(_pages()))):
        for route in listed:
            method, path = route.split()
            if path == "/logout":
                continue  # then nobody would be asking
            status, said = asked(client, method, filled(path, ids))
            there = status < 300 and "{" in path and "event: gone" not in said
            if status >= 500 or CANARY in said.replace(filled(path, ids), "") or there:
                told.append((route, status, said[:300]))
    assert not told, told
    assert here.database.look(lambda tx: standing(tx, tenant)) == before


def test_to_their_own_tenant_they_tell_it(here: Replica, theirs: tuple[str, dict[str, str]]) -> None:
    """Or the test above would hold of pages that tell nobody anything."""
    tenant, ids = theirs
    api, visitor = here.caller(tenant=tenant), Visitor(here, tenant=tenant)
    api.event_hooks = {}
    for client, listed, least in ((api, routes(), 10), (visitor.http, sorted(_pages()), 8)):
        reads = [route.split()[1] for route in listed if route.startswith("GET ") and "/live/" not in route]
        told = [path for path in reads if CANARY in asked(client, "GET", filled(path, ids))[1]]
        assert len(told) >= least, told
