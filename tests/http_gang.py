"""A gang that speaks the worker protocol over HTTP and computes nothing: tests decide what it says."""

from __future__ import annotations

import secrets
from typing import Any

import builders as make
import httpx
from replica import Replica

from orchestrator.store.database import Record


class HttpGang:
    """All ranks of one gang on one connection pool."""

    def __init__(self, here: Replica, gang: make.Gang, world: int = 1) -> None:
        self.http = here.client()
        self.id, self.gang_token, self.world = gang.id, gang.token, world
        self.session = ""

    def call(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.session if token is None else token}"}
        return self.http.request(method, f"/internal/v1{path}", json=body, headers=headers)

    def hello(self, nonce: str | None = None, **changes: Any) -> httpx.Response:
        body = {"nonce": nonce or secrets.token_hex(16), "world": self.world, "node": "n0", "pid": 1} | changes
        answer = self.call("POST", f"/gangs/{self.id}/ranks/0/hello", body, token=self.gang_token)
        if answer.status_code == 200:
            self.session = answer.json()["token"]
        return answer

    def join(self, rank: int) -> httpx.Response:
        return self.call("POST", f"/gangs/{self.id}/ranks/{rank}/hello", {"node": f"n{rank}", "pid": rank})

    def ready(self, rank: int = 0) -> httpx.Response:
        return self.call("POST", f"/gangs/{self.id}/ranks/{rank}/ready", {"seconds": {"setup": 0.5}})

    def begin(self) -> HttpGang:
        """Hello and ready of every rank."""
        assert self.hello().status_code == 200
        for rank in range(1, self.world):
            assert self.join(rank).status_code == 200
        assert [self.ready(rank).json() for rank in range(self.world)][-1] == {"gang_ready": True}
        return self

    def work(self, wait: float = 0) -> httpx.Response:
        return self.call("GET", f"/gangs/{self.id}/work?wait={wait}")

    def lease(self) -> dict[str, Any]:
        """The one live lease."""
        (lease,) = self.work().json()["work"]
        return dict(lease)

    def beat(self, *leases: dict[str, Any], **progress: Any) -> httpx.Response:
        pulses = [{"attempt": one["attempt"], "token": one["token"], **progress} for one in leases]
        return self.call("POST", f"/gangs/{self.id}/beat", {"phase": "busy", "ranks": [], "attempts": pulses})

    def finish(self, lease: dict[str, Any], **report: Any) -> httpx.Response:
        body = {"token": lease["token"], "outcome": "succeeded", "result": {"ok": True}, "run_s": 0.5} | report
        return self.call("POST", f"/attempts/{lease['attempt']}/finish", body)


def gang_in(here: Replica, pool: Record, **template: Any) -> HttpGang:
    """A gang that was just launched in the pool."""
    gang = here.database.transact(lambda tx: make.launching(tx, pool))
    return HttpGang(here, gang, world=pool.spec["nodes"] * pool.spec["ranks_per_node"])


def gang_with(here: Replica, request_id: str) -> HttpGang:
    """A ready gang in the request's pool, and its lease of what is first there: this one, if it is alone."""

    def work(tx: make.Tx) -> make.Gang:
        pool_id = make.request_row(tx, request_id).pool_id
        pool = tx.execute(make.text("SELECT * FROM pool WHERE id = :p"), {"p": pool_id}).one()
        made = make.ready(tx, pool)
        assert make.assign(tx, pool)
        return made

    made = here.database.transact(work)
    gang = HttpGang(here, made)
    gang.session = made.session
    return gang
