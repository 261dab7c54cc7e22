"""Gangs without ranks: rows in the database, and one event loop that speaks the worker protocol for all of them.

A ready gang is a gang row, a session and a fresh beat; who asks for its work over HTTP with that session is its rank 0.
Their cold start is said to have taken 10 s, so that placement prefers them.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import text

from benchmarks.stand import Stand
from benchmarks.wire import AsyncLine
from orchestrator.domain.ids import new_id
from orchestrator.store.database import Database, Tx
from orchestrator.store.tokens import digest

_GANGS = text("""
WITH new AS (
  INSERT INTO gang (id, name, tenant, pool_id, template, version_of, mode, backend, state, world, nodes, incarnation,
                    session_hash, launched_at, hello_at, ready_at, first_ready_at, next_check_at)
  SELECT g.id, 'bench-' || substr(g.id, 5), p.tenant, p.id, p.template, p.version, 'serve', 'nobody', :state, 4, 1, 1,
         g.session, clock_timestamp() - interval '10 s', clock_timestamp(), clock_timestamp(), clock_timestamp(),
         clock_timestamp() + interval '1 day'
  FROM unnest(CAST(:ids AS text[]), CAST(:sessions AS bytea[])) AS g (id, session)
  JOIN pool p ON p.template = :template AND p.current RETURNING id, pool_id
), beat AS (INSERT INTO gang_beat (gang_id, incarnation) SELECT id, 1 FROM new)
SELECT DISTINCT pool_id FROM new
""")


@dataclass(frozen=True, kw_only=True)
class Pretender:
    """One gang that nobody launched."""

    id: str
    token: str


def policy(count: int) -> dict[str, float]:
    """Of a pool that this many pretenders fill: no minimum, so that nothing is launched before they are there."""
    return {"min": 0, "max": count, "idle_timeout_s": 86400}


def pretend(database: Database, template: str, count: int, state: str = "ready") -> list[Pretender]:
    """That many gangs in the pool of a template; give the service a long lease, for nobody beats for them."""
    gangs = [Pretender(id=new_id("gng"), token=secrets.token_hex(32)) for _ in range(count)]

    def work(tx: Tx) -> None:
        values = {"ids": [gang.id for gang in gangs], "sessions": [digest(gang.token) for gang in gangs]}
        tx.execute(_GANGS, {**values, "template": template, "state": state})

    database.transact(work)
    return gangs


async def connect(stand: Stand, gang: Pretender) -> AsyncLine:
    """A kept-alive connection with the gang's session."""
    return await AsyncLine(stand.url, gang.token).open()


async def poll(line: AsyncLine, gang: Pretender, wait_s: float = 30.0) -> list[dict]:  # type: ignore[type-arg]
    """The leases of the gang."""
    answer = await line.good("GET", f"/internal/v1/gangs/{gang.id}/work?wait={wait_s:g}")
    return list(answer["work"])


async def finish(line: AsyncLine, lease: dict) -> list[dict]:  # type: ignore[type-arg]
    """Report a success; returns the next leases."""
    body = {"token": lease["token"], "outcome": "succeeded", "result": {"text": "x"}, "run_s": 0.001}
    answer = await line.good("POST", f"/internal/v1/attempts/{lease['attempt']}/finish", body)
    return list(answer["work"])
