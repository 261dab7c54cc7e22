"""Two tenants with something of everything, each holding a canary that the other one must never see."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import builders as make
import httpx
from replica import Replica

from orchestrator.domain.states import Outcome
from orchestrator.store import gangs, logs, requests
from orchestrator.store.tokens import Scope, create

SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "image": {"type": "string", "format": "muster-file"}},
}
KEYS = ("0123456789abcdef0123456789abcdef",)


@dataclass
class Tenant:
    """What a tenant owns, by the name of the path parameter that takes it."""

    name: str
    canary: str
    token: str = field(repr=False)
    token_id: str
    owned: dict[str, list[str]] = field(default_factory=dict)


def tenant(here: Replica, name: str) -> Tenant:
    """A tenant with requests in every state, gangs, files, tokens, webhooks, schedules and batches."""
    canary = f"CANARY-{name}"
    here.database.transact(lambda tx: make.tenant(tx, name))
    scopes = (Scope.READ, Scope.SUBMIT, Scope.ADMIN)
    token_id, token = here.database.transact(lambda tx: create(tx, tenant=name, name=canary, scopes=scopes))
    spare = [
        here.database.transact(lambda tx: create(tx, tenant=name, name=canary, scopes=[Scope.READ])[0])
        for _ in range(20)
    ]
    owned = {"name": ["echo", f"only-{name}"], "token_id": spare}
    told = Tenant(name=name, canary=canary, token=token, token_id=token_id, owned=owned)
    caller = here.client(token)
    _catalog(caller, told)
    _uploads(caller, told)
    _lives(here, told)
    _hooks(caller, told)
    _schedules(caller, told)
    _batches(caller, told)
    return told


def _catalog(caller: httpx.Client, told: Tenant) -> None:
    template = {"handler": "samples.echo:Echo", "input": SCHEMA, "description": told.canary, "pool": {"max": 4}}
    for name in told.owned["name"]:
        _good(caller.put(f"/v1/templates/{name}", json=template))


def _uploads(caller: httpx.Client, told: Tenant) -> None:
    answers = [
        _good(caller.post("/v1/files", params={"name": f"{told.canary}.txt"}, content=told.canary.encode()))
        for _ in range(3)
    ]
    told.owned["file_id"] = [answer.json()["id"] for answer in answers]


def _hooks(caller: httpx.Client, told: Tenant) -> None:
    hook = {"url": f"https://hooks.example.com/{told.canary}", "events": ["request.succeeded"]}
    hooks = [_good(caller.post("/v1/webhooks", json=hook)).json() for _ in range(3)]
    told.owned["webhook_id"] = [one["id"] for one in hooks]
    _good(caller.post(f"/v1/webhooks/{hooks[0]['id']}/test"))
    sent = _good(caller.get(f"/v1/webhooks/{hooks[0]['id']}/deliveries")).json()["data"]
    told.owned["delivery_id"] = [one["id"] for one in sent]


def _schedules(caller: httpx.Client, told: Tenant) -> None:
    runs = {"request": {"template": "echo", "input": {"text": told.canary}, "labels": {"note": told.canary}}}
    names = [f"nightly-{number}-{told.name}" for number in range(6)]
    for name in names:
        _good(caller.post("/v1/schedules", json={"name": name, "cron": "0 2 29 2 *", "runs": runs}))
        _good(caller.post(f"/v1/schedules/{name}/trigger"))
    told.owned["schedule"] = names


def _batches(caller: httpx.Client, told: Tenant) -> None:
    """One that waits, one that names its lines, one that is paused, one that is being canceled, one with a bad line."""
    names = [f"i-{number}" for number in range(3)]
    said = {"input": {"text": told.canary}, "labels": {"note": told.canary}}
    lines = "\n".join(json.dumps({"custom_id": name, **said}) for name in names)
    query = {"template": "echo", "errors": "items", "label.note": told.canary}

    def submit(content: str) -> str:
        answer = caller.post(
            "/v1/batches", params=query, content=content, headers={"Content-Type": "application/jsonl"}
        )
        return str(_good(answer).json()["id"])

    waiting, paused, canceled = (submit(lines) for _ in range(3))
    _good(caller.post(f"/v1/batches/{paused}/pause"))
    _good(caller.post(f"/v1/batches/{canceled}/cancel"))
    bad = submit(f'{lines}\n{{"custom_id": "{told.canary}", "input": 3}}')
    named = _good(caller.post("/v1/batches", json={"template": "echo", "file": told.owned["file_id"][0]})).json()["id"]
    told.owned["batch_id"], told.owned["custom_id"] = [waiting, paused, canceled, bad, named], names


def _lives(here: Replica, told: Tenant) -> None:
    """One request in every state; of some an output, a log, a loss."""
    said: dict[str, Any] = {"tenant": told.name, "input": {"text": told.canary}, "labels": {"note": told.canary}}
    output = {"name": "note.txt", "media_type": "text/plain", "bytes": len(told.canary), "sha256": "0" * 64}

    def work(tx: make.Tx) -> tuple[list[str], list[str]]:
        def pool() -> Any:
            return make.pool(tx, tenant=told.name, description=told.canary)

        done, failed, lost = make.running(tx, pool(), **said), make.running(tx, pool(), **said), None
        uri = f"{here.office.settings.outputs.rstrip('/')}/{told.name}/{done.request}/1/note.txt"
        chunk = logs.Chunk(seq=1, request=done.request, at=1.0, text=f"{told.canary}\n")
        logs.append(tx, done.gang.id, done.gang.incarnation, 0, [chunk])
        make.finish(tx, done, value={"said": told.canary}, outputs=[{**output, "uri": uri}])
        error = {"code": "handler_error", "message": told.canary, "traceback": told.canary}
        make.finish(tx, failed, Outcome.FAILED, error=error)
        lost = make.running(tx, pool(), **said)
        make.lose(tx, lost, why=told.canary)
        assigned, running, canceling = (
            make.leased(tx, pool(), **said),
            make.running(tx, pool(), **said),
            make.running(tx, pool(), **said),
        )
        requests.cancel(tx, told.name, canceling.request)
        canceled, expired = make.queued(tx, pool(), **said), make.queued(tx, pool(), **said)
        requests.cancel(tx, told.name, canceled)
        requests.expire(tx, expired)
        waiting = [make.queued(tx, pool(), **said) for _ in range(3)]
        gone = make.ready(tx, pool())
        gangs.end(tx, gone.id, make.Reason.IDLE, told.canary)
        leases = [done, failed, lost, assigned, running, canceling]
        ids = [*(lease.request for lease in leases), canceled, expired, *waiting]
        return ids, [gone.id, *(lease.gang.id for lease in leases)]

    told.owned["request_id"], told.owned["gang"] = here.database.transact(work)
    _write(here, told)


def _write(here: Replica, told: Tenant) -> None:
    folder = here.office.settings.folder / "outputs" / told.name / told.owned["request_id"][0] / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "note.txt").write_text(told.canary)


def _good(answer: httpx.Response) -> httpx.Response:
    assert answer.is_success, answer.text
    return answer


SETTINGS: dict[str, Any] = {"webhook_keys": KEYS, "poll": timedelta(seconds=1)}
