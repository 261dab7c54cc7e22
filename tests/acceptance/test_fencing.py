"""A gang that comes back after its lease was over changes nothing (A6)."""

from __future__ import annotations

import hashlib
import hmac
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from stage import Up, echo, processes, until

from orchestrator.client import Request
from orchestrator.store.database import Record, Tx

NAME = "twins"
SETTINGS = {"MUSTER_STOP_GRACE": "60"}  # the stopped gang shall not be killed before it comes back


@dataclass(frozen=True, kw_only=True)
class Zombie:
    """A request that another gang finished, and what its first gang held."""

    request: Request
    lease: Record
    session: str
    last_words: str


@pytest.fixture(scope="module")
def zombie(up: Up) -> Zombie:
    """Stop a whole gang during a run, let another one finish it, wake the first and watch it go."""
    up.client.apply_template(echo(NAME, ranks=2, min=2, max=2))
    until(lambda: sum(gang.state == "idle" for gang in up.gangs(NAME)) == 2, "two gangs are idle")
    begun = up.client.submit(NAME, {"sleep_s": 4, "steps": 40})  # it is stopped long before
    up.running(begun.id, past_step=2)
    lease = up.look(lambda tx: lease_of(tx, begun.id))
    folder = up.home / "gangs" / lease.name
    session = session_of((folder / "token").read_text(), lease)
    processes.send(signal.SIGSTOP, processes.of_gang(lease.gang_id))
    done = up.done(begun.id)
    with (folder / "node-0.log").open() as log:
        before = everything(up, begun.id)
        processes.send(signal.SIGCONT, processes.ranks(lease.gang_id))
        until(lambda: not processes.ranks(lease.gang_id), "the ranks that came back have ended by themselves")
        processes.send(signal.SIGCONT, processes.of_gang(lease.gang_id))
        until(lambda: not processes.of_gang(lease.gang_id), "the gang that came back has ended")
        assert everything(up, begun.id) == before
        return Zombie(request=done, lease=lease, session=session, last_words=log.read())


def lease_of(tx: Tx, request_id: str) -> Record:
    return tx.execute(
        text(
            "SELECT a.id, a.token, a.gang_id, a.incarnation, g.name, g.nonce FROM attempt a JOIN gang g"
            " ON g.id = a.gang_id WHERE a.request_id = :r ORDER BY a.number DESC LIMIT 1"
        ),
        {"r": request_id},
    ).one()


def session_of(gang_token: str, lease: Record) -> str:
    """The incarnation token, as the service made it for the gang."""
    words = f"{lease.incarnation}:{lease.nonce}".encode()
    return hmac.new(gang_token.strip().encode(), words, hashlib.sha256).hexdigest()


def everything(up: Up, request_id: str) -> Mapping[str, Any]:
    """All that the database holds of a request."""
    tables = {"request": "id", "attempt": "request_id", "result": "request_id", "usage": "request_id"}
    tables |= {"output": "request_id", "event": "subject", "progress": "request_id"}

    def rows(tx: Tx) -> dict[str, Any]:
        return {
            table: tx.execute(
                text(f"SELECT jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)::text) FROM {table} t WHERE {column} = :id"),
                {"id": request_id},
            ).scalar_one()
            for table, column in tables.items()
        }

    return up.look(rows)


def call(up: Up, zombie: Zombie, path: str, body: Mapping[str, Any]) -> tuple[int, str]:
    answer = httpx.post(
        f"{up.client.url}/internal/v1/{path}",
        json=body,
        headers={"Authorization": f"Bearer {zombie.session}"},
        trust_env=False,
    )
    return answer.status_code, answer.json()["code"]


def test_another_gang_finishes_what_a_silent_gang_held(up: Up, zombie: Zombie) -> None:
    assert zombie.request.succeeded
    assert zombie.request.attempt == 2
    assert up.moves(zombie.request.id) == ["record", "assign", "start", "retry", "assign", "start", "succeed"]
    retry = next(event for event in up.client.events(zombie.request.id) if event.move == "retry")
    assert retry.data["reason_code"] == "lease_expired"


def test_the_gang_that_came_back_was_told_that_it_is_over(zombie: Zombie) -> None:
    print(zombie.last_words)
    refused = [line for line in zombie.last_words.splitlines() if " 409 " in line or " 410 " in line]
    assert refused, zombie.last_words


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "canceled"])
def test_a_late_report_is_refused_and_changes_nothing(up: Up, zombie: Zombie, outcome: str) -> None:
    before = everything(up, zombie.request.id)
    report = {"token": zombie.lease.token, "outcome": outcome, "result": {"text": "late"}, "run_s": 9.0}
    assert call(up, zombie, f"attempts/{zombie.lease.id}/finish", report) == (409, "stale_lease")
    assert everything(up, zombie.request.id) == before


def test_a_late_beat_is_refused_and_changes_nothing(up: Up, zombie: Zombie) -> None:
    before = everything(up, zombie.request.id)
    pulse = {"attempt": zombie.lease.id, "token": zombie.lease.token, "phase": "late", "current": 19, "total": 20}
    beat = {"phase": "busy", "attempts": [pulse]}
    assert call(up, zombie, f"gangs/{zombie.lease.gang_id}/beat", beat) == (410, "gang_gone")
    assert everything(up, zombie.request.id) == before
