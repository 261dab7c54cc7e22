"""The ticks of schedules as rows: one for each tick, before anything runs for it, and what became of it.

A tick's row and the run that it names are written in one transaction by whoever holds the schedule's row: so there is
at most one run for a tick, over any number of replicas and restarts (I17).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import text

from orchestrator.domain.schedules import FireState, Policy, SkipReason
from orchestrator.errors import Conflict, NotFound
from orchestrator.store import batches, outbox, requests
from orchestrator.store.database import Record, Tx

KEPT = timedelta(days=90)
"""How long is known what became of a tick."""
_CHUNK = 1000


@dataclass(frozen=True, kw_only=True)
class Started:
    """What runs for a tick: one of the two."""

    request: str | None = None
    batch: str | None = None


# ---------------------------------------------------------------------------------------------------------------- mint

_MINT = text("""
INSERT INTO schedule_fire (schedule_id, tick, version, due_at, state, reason_code, reason, decided_at)
SELECT :id, tick, :version, due_at, :state, :code, :why, CAST(:decided AS timestamptz)
FROM json_to_recordset(CAST(:ticks AS json)) AS t (tick timestamptz, due_at timestamptz)
ON CONFLICT DO NOTHING
""")


def mint(tx: Tx, row: Record, until: datetime, most: int = _CHUNK) -> bool:
    """A row for each tick up to `until`, at most so many; whether that was all. The schedule's row must be locked."""
    policy = Policy.model_validate(row.policy)
    ticks = list(islice(policy.ticks(row.minted_until, until), most))
    if ticks:
        paused = row.paused_at is not None
        made = [{"tick": tick.isoformat(), "due_at": policy.due(row.id, tick).isoformat()} for tick in ticks]
        values = {
            "state": FireState.SKIPPED if paused else FireState.WAITING,
            "code": SkipReason.PAUSED if paused else None,
            "why": "the schedule was paused" if paused else None,
            "decided": until if paused else None,
        }
        tx.execute(_MINT, {"id": row.id, "version": row.version, "ticks": json.dumps(made), **values})
    whole = len(ticks) < most
    tx.execute(
        text("UPDATE schedule SET minted_until = :at WHERE id = :id"),
        {"id": row.id, "at": max(until, row.minted_until) if whole else ticks[-1]},
    )
    return whole


def mint_all(tx: Tx, row: Record, until: datetime) -> None:
    """Every tick up to `until`, as the schedule is now: before it is changed. The schedule's row must be locked."""
    mint(tx, row, until, most=1_000_000)


def trigger(tx: Tx, row: Record, at: datetime) -> None:
    """A tick that a person asked for."""
    tx.execute(
        text(
            "INSERT INTO schedule_fire (schedule_id, tick, version, triggered, due_at, state)"
            " VALUES (:id, :at, :version, true, :at, 'waiting')"
        ),
        {"id": row.id, "at": at, "version": row.version},
    )


# -------------------------------------------------------------------------------------------------------------- decide

_SKIP_MISFIRES = text(f"""
WITH late AS (
  SELECT tick, row_number() OVER (ORDER BY tick DESC) AS n FROM schedule_fire
  WHERE schedule_id = :id AND version = :version AND state = 'waiting' AND queued_at IS NULL AND NOT triggered
    AND due_at < :now - :grace * interval '1 second'
), newer AS (
  SELECT EXISTS (SELECT FROM schedule_fire WHERE schedule_id = :id AND NOT triggered AND due_at <= :now
                   AND state <> 'skipped' AND tick > (SELECT max(tick) FROM late)) AS found
), moved AS (
  UPDATE schedule_fire f SET state = 'skipped', reason_code = 'misfire', reason = :why, decided_at = :now
  FROM late, newer WHERE f.schedule_id = :id AND f.tick = late.tick
    AND late.n > CASE WHEN :once AND newer.found THEN 0 ELSE :kept END
  RETURNING f.*
){outbox.TICKS_SKIPPED}
SELECT count(*) FROM moved
""")


def skip_misfires(tx: Tx, schedule_id: str, at: datetime) -> int:
    """Of the ticks that nobody looked at within their grace, leave those that are to run all the same."""
    versions = text("SELECT DISTINCT version FROM schedule_fire WHERE schedule_id = :id AND state = 'waiting'")
    return sum(
        _skip_misfires(tx, schedule_id, number, at)
        for number in tx.execute(versions, {"id": schedule_id}).scalars().all()
    )


def _skip_misfires(tx: Tx, schedule_id: str, version: int, at: datetime) -> int:
    query = text("SELECT policy FROM schedule_version WHERE schedule_id = :id AND version = :v")
    policy = Policy.model_validate(tx.execute(query, {"id": schedule_id, "v": version}).scalar_one())
    skipped: int = tx.execute(
        _SKIP_MISFIRES,
        {
            "id": schedule_id,
            "version": version,
            "now": at,
            "grace": policy.grace_s,
            "kept": policy.kept(),
            "once": policy.misfire == "run_once",
            "why": f"later than {policy.grace_s} s, and misfire is {policy.misfire}",
        },
    ).scalar_one()
    return skipped


_WITH_VERSION = "SELECT f.*, v.policy, v.runs FROM schedule_fire f JOIN schedule_version v USING (schedule_id, version)"


def of_tick(tx: Tx, schedule_id: str, tick: datetime) -> Record:
    """One of them, with what its version says."""
    query = text(f"{_WITH_VERSION} WHERE schedule_id = :id AND tick = :tick")
    return tx.execute(query, {"id": schedule_id, "tick": tick}).one()


def oldest_due(tx: Tx, schedule_id: str, at: datetime) -> Record | None:
    """The tick to decide now, with what its version says; ticks are decided in their order."""
    query = text(f"{_WITH_VERSION} WHERE schedule_id = :id AND state = 'waiting' ORDER BY tick LIMIT 1")
    row = tx.execute(query, {"id": schedule_id}).one_or_none()
    return row if row is not None and row.due_at <= at else None


def open_runs(tx: Tx, schedule_id: str) -> tuple[str, ...]:
    """Requests and batches that the schedule started and that are not over, oldest first."""
    tx.execute(
        text(
            "UPDATE schedule_fire f SET over = true WHERE schedule_id = :id AND state = 'ran' AND NOT over"
            " AND NOT EXISTS (SELECT FROM request r WHERE r.id = f.request_id AND r.next_check_at IS NOT NULL)"
            " AND NOT EXISTS (SELECT FROM batch b WHERE b.id = f.batch_id AND b.next_check_at IS NOT NULL)"
        ),
        {"id": schedule_id},
    )
    query = text(
        "SELECT coalesce(request_id, batch_id) FROM schedule_fire"
        " WHERE schedule_id = :id AND state = 'ran' AND NOT over ORDER BY tick"
    )
    return tuple(tx.execute(query, {"id": schedule_id}).scalars().all())


def skip(tx: Tx, fire: Record, reason: SkipReason, why: str, at: datetime) -> None:
    changes = "state = 'skipped', reason_code = :code, reason = :why"
    _decided(tx, fire, at, changes, outbox.TICKS_SKIPPED, code=reason, why=why)


def ran(tx: Tx, fire: Record, started: Started, at: datetime) -> None:
    """In the transaction that records the run."""
    values = {"request": started.request, "batch": started.batch}
    _decided(tx, fire, at, "state = 'ran', request_id = :request, batch_id = :batch", outbox.TICK_FIRED, **values)


def _decided(tx: Tx, fire: Record, at: datetime, changes: str, told: str, **values: str | None) -> None:
    moved = tx.execute(
        text(
            f"WITH moved AS (UPDATE schedule_fire SET {changes}, decided_at = :now"
            f" WHERE schedule_id = :id AND tick = :tick AND state = 'waiting' RETURNING *){told}"
            " SELECT count(*) FROM moved"
        ),
        {"id": fire.schedule_id, "tick": fire.tick, "now": at, **values},
    )
    if moved.scalar_one() != 1:
        raise Conflict(f"tick {fire.tick.isoformat()} of {fire.schedule_id} was decided before")


def queue(tx: Tx, schedule_id: str, most: int, at: datetime) -> int:
    """What is due waits for an earlier run, at most so many ticks; the others are skipped. Returns how many were."""
    values = {"id": schedule_id, "most": most, "now": at, "why": f"{most} ticks waited already"}
    due = "SELECT tick, row_number() OVER (ORDER BY tick) AS n FROM schedule_fire WHERE schedule_id = :id"
    due = f"WITH due AS ({due} AND state = 'waiting' AND due_at <= :now)"
    tx.execute(
        text(
            f"{due} UPDATE schedule_fire f SET queued_at = :now FROM due"
            " WHERE f.schedule_id = :id AND f.tick = due.tick AND due.n <= :most AND f.queued_at IS NULL"
        ),
        values,
    )
    skipped: int = tx.execute(
        text(
            f"{due}, moved AS (UPDATE schedule_fire f SET state = 'skipped', reason_code = 'queue_full', reason = :why,"
            " decided_at = :now FROM due WHERE f.schedule_id = :id AND f.tick = due.tick AND due.n > :most"
            f" RETURNING f.*){outbox.TICKS_SKIPPED} SELECT count(*) FROM moved"
        ),
        values,
    ).scalar_one()
    return skipped


def cancel_run(tx: Tx, tenant: str, run: str, why: str) -> Record | None:
    """End what an earlier tick started. Returns the request's row, if it is one that was not over."""
    if run.startswith("bat_"):
        batches.cancel(tx, run, why)
        return None
    try:
        return requests.cancel(tx, tenant, run)
    except (Conflict, NotFound):  # it ended meanwhile, and may be deleted
        return None


# ---------------------------------------------------------------------------------------------------------------- read


def next_due(tx: Tx, schedule_id: str) -> datetime | None:
    """When the oldest waiting tick is to run."""
    query = text("SELECT due_at FROM schedule_fire WHERE schedule_id = :id AND state = 'waiting' ORDER BY tick LIMIT 1")
    found: datetime | None = tx.execute(query, {"id": schedule_id}).scalar_one_or_none()
    return found


def page(tx: Tx, schedule_id: str, before: datetime | None, limit: int) -> Sequence[Record]:
    """Newest first, before that tick."""
    query = text(
        "SELECT * FROM schedule_fire WHERE schedule_id = :id"
        " AND tick < coalesce(CAST(:before AS timestamptz), 'infinity') ORDER BY tick DESC LIMIT :n"
    )
    return tx.execute(query, {"id": schedule_id, "before": before, "n": limit}).all()


def prune(tx: Tx, at: datetime) -> int:
    """Forget ticks that were decided long ago; a run that is not over is remembered."""
    values = {"before": at - KEPT}
    gone = tx.execute(
        text("DELETE FROM schedule_fire WHERE tick < :before AND decided_at < :before AND (state = 'skipped' OR over)"),
        values,
    ).rowcount
    if gone:
        tx.execute(text("UPDATE schedule SET pruned_before = :before"), values)
    return gone
