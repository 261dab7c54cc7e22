"""Rows for tests, made by the moves of the store: what is not given has a sensible value."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from orchestrator.domain.batches import Counts
from orchestrator.domain.ids import new_id, new_token
from orchestrator.domain.placement import Mode, Placed, Placement
from orchestrator.domain.states import Outcome, Reason
from orchestrator.domain.template import Template
from orchestrator.store import (
    accepting,
    attempts,
    batch_figures,
    batches,
    gangs,
    incarnations,
    members,
    pulses,
    scheduling,
    templates,
)
from orchestrator.store import items as store_items
from orchestrator.store.attempts import Finish, Finished
from orchestrator.store.batches import NewBatch
from orchestrator.store.database import Record, Tx
from orchestrator.store.incarnations import Rank
from orchestrator.store.orders import NewRequest
from orchestrator.store.pulses import Pulse
from orchestrator.store.tokens import digest

LEASE = timedelta(seconds=30)
START = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Gang:
    """A gang and the credentials of its current incarnation."""

    id: str
    token: str
    session: str = ""
    incarnation: int = 0

    @property
    def session_hash(self) -> bytes:
        return digest(self.session)


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A live attempt as its gang knows it."""

    attempt: str
    token: str
    request: str
    gang: Gang


def template(**changes: Any) -> Template:
    name = changes.pop("name", f"t-{secrets.token_hex(6)}")
    return Template.model_validate({"name": name, "handler": "samples.echo:Echo", **changes})


def pool(tx: Tx, *, tenant: str = "default", **changes: Any) -> Record:
    """The pool of a new template."""
    return templates.apply(tx, tenant, template(**changes))


def pools_of(tx: Tx, of: str) -> Sequence[Record]:
    """The pools of a tenant."""
    return tx.execute(text("SELECT * FROM pool WHERE tenant = :t"), {"t": of}).all()


def tenant(tx: Tx, name: str | None = None, weight: float = 1.0) -> str:
    name = name or f"tenant-{secrets.token_hex(6)}"
    tx.execute(text("INSERT INTO tenant (id, weight) VALUES (:id, :w)"), {"id": name, "w": weight})
    return name


def new_request(of: Record, **changes: Any) -> NewRequest:
    placement = changes.pop("placement", Placement.WARM)
    values: dict[str, Any] = {
        "id": new_id("req"),
        "tenant": "default",
        "template": of.template,
        "template_version": of.version,
        "pool_id": of.id,
        "mode": Mode.AUTO,
        "placed": Placed(placement=placement, reason="a test says so"),
        "priority": 0,
        "input": {"text": "hello"},
        "labels": {},
        "timeout_s": 60.0,
        "start_within_s": None,
        "max_attempts": 5,
        "max_crashes": 3,
        "idempotency_key": None,
        "body_digest": b"digest",
    }
    return NewRequest(**(values | changes))


def queued(tx: Tx, of: Record, **changes: Any) -> str:
    """A request that waits for a warm gang of the pool, or for a gang of its own."""
    new = new_request(of, **changes)
    assert accepting.record(tx, [new])
    return new.id


def validating(tx: Tx, of: Record, **changes: Any) -> str:
    """A batch whose lines nobody looked at."""
    values: dict[str, Any] = {
        "id": new_id("bat"),
        "tenant": "default",
        "template": of.template,
        "template_version": of.version,
        "pool_id": of.id,
        "source": "fil_00000000000000000000000000",
        "strict": True,
        "max_parallel": 2,
        "shared": False,
        "max_failed": None,
        "on_max_failed": "stop",
        "priority": 0,
        "labels": {},
        "expire_after_s": None,
        "idempotency_key": None,
        "body_digest": b"digest",
    }
    new = NewBatch(**(values | changes))
    assert batches.record(tx, new) is not None
    return new.id


def batch(tx: Tx, of: Record, items: int = 3, **changes: Any) -> str:
    """A batch of so many items, `i-1` and so on, which wait."""
    batch_id = validating(tx, of, **({"source": None} | changes))
    record_items(tx, batch_id, items)
    assert batches.accept(tx, batch_id, items)
    return batch_id


def record_items(tx: Tx, batch_id: str, count: int) -> None:
    rows = [
        {
            "id": new_id("req"),
            "line": n,
            "custom_id": f"i-{n}",
            "priority": 0,
            "input": {"text": f"item {n}"},
            "labels": {},
            "files": None,
            "timeout_s": 60.0,
            "max_attempts": 5,
        }
        for n in range(1, count + 1)
    ]
    assert store_items.record(tx, batch_id, json.dumps(rows), max_crashes=3, output_ttl_s=None) == count


def batch_row(tx: Tx, batch_id: str) -> Record:
    return tx.execute(text("SELECT * FROM batch WHERE id = :id"), {"id": batch_id}).one()


def counts(tx: Tx, batch_id: str) -> Counts:
    """As shown."""
    return batch_figures.get(tx, "default", batch_id).progress.counts


def item(tx: Tx, batch_id: str, line: int) -> Record:
    """The current request of a line."""
    query = text("SELECT * FROM request WHERE batch_id = :b AND line = :l AND replaced_by IS NULL")
    return tx.execute(query, {"b": batch_id, "l": line}).one()


def pull(tx: Tx, gang: Gang, slot: int = 0) -> Lease | None:
    """What a ready batch gang gets, or a slot of it."""
    return lease_of(tx, gang, slot) if scheduling.assign_batch(tx, gang.id, slot).gangs else None


def planned(tx: Tx, of: Record, *, request_id: str | None = None, batch_id: str | None = None) -> Gang:
    gang_id, token = gangs.plan(tx, of, backend="test", request_id=request_id, batch_id=batch_id), new_token()
    gangs.add_token(tx, gang_id, token)
    return Gang(id=gang_id, token=token)


def launching(tx: Tx, of: Record, **of_one: str | None) -> Gang:
    gang = planned(tx, of, **of_one)
    assert gangs.launched(tx, gang.id, START)
    return gang


def hello(tx: Tx, gang: Gang, *, nonce: str | None = None) -> Gang:
    """A new incarnation; the ranks other than 0 have said hello too."""
    world = world_of(tx, gang)
    replicas = tx.execute(text("SELECT replicas FROM gang WHERE id = :g"), {"g": gang.id}).scalar_one()
    born = incarnations.hello(
        tx,
        gang.id,
        gang.token,
        nonce=nonce or secrets.token_hex(16),
        world=world,
        rank=rank(0),
        lease=LEASE,
        replicas=replicas,
    )
    for number in range(1, world):
        incarnations.add_rank(tx, gang.id, born.incarnation, rank(number))
    return Gang(id=gang.id, token=gang.token, session=born.session, incarnation=born.incarnation)


def rank(number: int) -> Rank:
    return Rank(rank=number, node=f"n{number}", pid=1000 + number, local_rank=0, device="cpu")


def world_of(tx: Tx, gang: Gang) -> int:
    return int(tx.execute(text("SELECT world FROM gang WHERE id = :g"), {"g": gang.id}).scalar_one())


def loading(tx: Tx, of: Record, **of_one: str | None) -> Gang:
    return hello(tx, launching(tx, of, **of_one))


def all_ranks_ready(tx: Tx, gang: Gang) -> Record | None:
    """What the report of the last rank answers."""
    answers = [incarnations.rank_ready(tx, gang.id, gang.incarnation, r, {}) for r in range(world_of(tx, gang))]
    return answers[-1]


def ready(tx: Tx, of: Record, **of_one: str | None) -> Gang:
    """A gang that may get work; with `request_id` or `batch_id` a batch gang."""
    gang = loading(tx, of, **of_one)
    assert all_ranks_ready(tx, gang) is not None
    return gang


def assign(tx: Tx, of: Record) -> Sequence[str]:
    """One tick of the scheduler in the pool; the gangs that got a lease."""
    return scheduling.assign_pool(tx, of.id, LEASE).gangs


def lease_of(tx: Tx, gang: Gang, slot: int = 0) -> Lease:
    """The one live lease of the gang, or of a slot of it."""
    _, duty = members.work(tx, gang.id, gang.session_hash, slot)
    (lease,) = duty.leases
    return Lease(attempt=lease.attempt, token=lease.token, request=lease.request, gang=gang)


def leased(tx: Tx, of: Record, **changes: Any) -> Lease:
    """A request that a gang of its own in the pool just got."""
    gang = ready(tx, of)
    queued(tx, of, **changes)
    assert list(assign(tx, of)) == [gang.id]
    return lease_of(tx, gang)


def pulse(lease: Lease, current: float | None = 1) -> Pulse:
    return Pulse(attempt=lease.attempt, token=lease.token, phase="run", current=current, total=10)


def beat(tx: Tx, lease: Lease, current: float | None = 1) -> str:
    """What the gang is told of the attempt: the first beat starts it."""
    members.beat(tx, lease.gang.id, lease.gang.incarnation, [])
    return pulses.beat(tx, lease.gang.id, lease.gang.incarnation, pulse(lease, current)).answer


def running(tx: Tx, of: Record, **changes: Any) -> Lease:
    lease = leased(tx, of, **changes)
    assert beat(tx, lease) == "continue"
    return lease


def report(lease: Lease, outcome: Outcome = Outcome.SUCCEEDED, **changes: Any) -> Finish:
    values: dict[str, Any] = {"token": lease.token, "outcome": outcome, "digest": b"bytes", "run_s": 1.5}
    if outcome is Outcome.SUCCEEDED:
        values["value"] = {"answer": 42}
    if outcome is Outcome.FAILED:
        values["error"] = {"code": "handler_error", "message": "it broke"}
    return Finish(**(values | changes))


def finish(tx: Tx, lease: Lease, outcome: Outcome = Outcome.SUCCEEDED, **changes: Any) -> Finished:
    return attempts.finish(tx, lease.attempt, lease.gang.session_hash, report(lease, outcome, **changes))


def lose(tx: Tx, lease: Lease, reason: Reason = Reason.LEASE_EXPIRED, why: str = "no beat") -> Sequence[Finished]:
    """Every live lease of the gang is over."""
    return gangs.lose_leases(tx, lease.gang.id, reason, why)


def request_row(tx: Tx, request_id: str) -> Record:
    return tx.execute(text("SELECT * FROM request WHERE id = :id"), {"id": request_id}).one()


def gang_row(tx: Tx, gang: Gang | str) -> Record:
    key = gang if isinstance(gang, str) else gang.id
    return tx.execute(text("SELECT * FROM gang WHERE id = :id"), {"id": key}).one()


def events_of(tx: Tx, subject: str) -> list[Record]:
    return list(tx.execute(text("SELECT * FROM event WHERE subject = :s ORDER BY seq"), {"s": subject}))


def count(tx: Tx, query: str, **values: Any) -> int:
    return int(tx.execute(text(query), values).scalar_one())
