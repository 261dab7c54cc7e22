"""Schedules as rows: what each says, version by version, and when to look at it. Their ticks are in fires.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from orchestrator.errors import Conflict, NotFound
from orchestrator.store.database import Record, Tx

MOST = 500
"""Schedules of one tenant."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """One version of a schedule, checked."""

    policy: Mapping[str, Any]
    runs: Mapping[str, Any]


def now(tx: Tx) -> datetime:
    """The only clock that ticks are held to."""
    found: datetime = tx.execute(text("SELECT clock_timestamp()")).scalar_one()
    return found


_SHOWN = """SELECT s.*, v.policy, v.runs, v.since FROM schedule s
JOIN schedule_version v ON (v.schedule_id, v.version) = (s.id, s.version)"""
_SAY = text(
    "INSERT INTO schedule_version (schedule_id, version, policy, runs, since)"
    " VALUES (:id, :version, CAST(:policy AS jsonb), CAST(:runs AS jsonb), :now)"
)


def create(tx: Tx, schedule_id: str, tenant: str, name: str, said: Said, *, paused: bool, at: datetime) -> None:
    """Its first tick is later than `at`. Raises Conflict `schedule_exists`, `too_many_schedules`."""
    tx.execute(text("SELECT 1 FROM tenant WHERE id = :t FOR UPDATE"), {"t": tenant})
    if tx.execute(text("SELECT count(*) FROM schedule WHERE tenant = :t"), {"t": tenant}).scalar_one() >= MOST:
        raise Conflict(f"a tenant has at most {MOST} schedules; delete one", code="too_many_schedules")
    made = tx.execute(
        text(
            "INSERT INTO schedule (id, tenant, name, paused_at, minted_until, next_check_at, created_at, updated_at)"
            " VALUES (:id, :tenant, :name, :paused_at, :now, :now, :now, :now) ON CONFLICT DO NOTHING"
        ),
        {"id": schedule_id, "tenant": tenant, "name": name, "paused_at": at if paused else None, "now": at},
    )
    if not made.rowcount:
        raise Conflict(f"there is a schedule {name!r}: change or delete it", code="schedule_exists")
    _say(tx, schedule_id, 1, said, at)


def _say(tx: Tx, schedule_id: str, version: int, said: Said, at: datetime) -> None:
    written = {"policy": json.dumps(dict(said.policy)), "runs": json.dumps(dict(said.runs))}
    tx.execute(_SAY, {"id": schedule_id, "version": version, "now": at, **written})


def get(tx: Tx, tenant: str, ref: str) -> Record:
    """By ID or name, as its current version says. Raises NotFound, also for another tenant's."""
    query = text(f"{_SHOWN} WHERE s.tenant = :t AND (s.id = :ref OR s.name = :ref)")
    row = tx.execute(query, {"t": tenant, "ref": ref}).one_or_none()
    if row is None:
        raise NotFound(f"no schedule {ref!r}; `muster schedule ls` shows what there is")
    return row


def lock(tx: Tx, tenant: str, ref: str) -> Record:
    """As `get`; nobody else changes it or decides its ticks until the transaction ends."""
    query = text("SELECT id FROM schedule WHERE tenant = :t AND (id = :ref OR name = :ref) FOR UPDATE")
    tx.execute(query, {"t": tenant, "ref": ref})
    return get(tx, tenant, ref)  # a statement of its own: who waited for the lock must see the version that came


def list_all(tx: Tx, tenant: str) -> Sequence[Record]:
    """By name."""
    return tx.execute(text(f"{_SHOWN} WHERE s.tenant = :t ORDER BY s.name"), {"t": tenant}).all()


def revise(tx: Tx, row: Record, said: Said, at: datetime) -> None:
    """A new version, for ticks later than `at`: those before must have been minted."""
    _say(tx, row.id, row.version + 1, said, at)
    _change(tx, row.id, at, "version = version + 1, minted_until = :now, next_check_at = :now, ended_at = NULL")


def pause(tx: Tx, row: Record, at: datetime) -> None:
    """No tick after `at` runs. Changes nothing where it is paused already."""
    if row.paused_at is None:
        _change(tx, row.id, at, "paused_at = :now")


def resume(tx: Tx, row: Record, at: datetime) -> None:
    """Ticks after `at` run."""
    if row.paused_at is not None:
        _change(
            tx,
            row.id,
            at,
            "paused_at = NULL, next_check_at = CASE WHEN ended_at IS NULL THEN CAST(:now AS timestamptz) END",
        )


def _change(tx: Tx, schedule_id: str, at: datetime, changes: str) -> None:
    tx.execute(text(f"UPDATE schedule SET {changes}, updated_at = :now WHERE id = :id"), {"id": schedule_id, "now": at})


def delete(tx: Tx, row: Record) -> None:
    """It and what is known of its ticks. What it started stays."""
    for table, key in (("schedule_fire", "schedule_id"), ("schedule_version", "schedule_id"), ("schedule", "id")):
        tx.execute(text(f"DELETE FROM {table} WHERE {key} = :id"), {"id": row.id})


# --------------------------------------------------------------------------------------------------------------- looks


def due(tx: Tx, at: datetime, limit: int = 100) -> Sequence[str]:
    """Schedules whose clock rang."""
    query = text("SELECT id FROM schedule WHERE next_check_at <= :now ORDER BY next_check_at LIMIT :n")
    return tx.execute(query, {"now": at, "n": limit}).scalars().all()


def claim(tx: Tx, schedule_id: str) -> Record | None:
    """Locked until the transaction ends; None if somebody else looks at it, or it is gone or ended."""
    query = text(f"{_SHOWN} WHERE s.id = :id AND s.next_check_at IS NOT NULL FOR UPDATE OF s SKIP LOCKED")
    return tx.execute(query, {"id": schedule_id}).one_or_none()


def wind(tx: Tx, schedule_id: str, next_check_at: datetime) -> None:
    tx.execute(
        text("UPDATE schedule SET next_check_at = :at WHERE id = :id AND ended_at IS NULL"),
        {"id": schedule_id, "at": next_check_at},
    )


def end(tx: Tx, schedule_id: str, at: datetime) -> None:
    """No tick is left."""
    tx.execute(
        text("UPDATE schedule SET ended_at = :now, next_check_at = NULL WHERE id = :id"), {"id": schedule_id, "now": at}
    )


def version(tx: Tx, schedule_id: str, number: int) -> Record:
    query = text("SELECT * FROM schedule_version WHERE schedule_id = :id AND version = :v")
    return tx.execute(query, {"id": schedule_id, "v": number}).one()
