"""Batches with their figures: counted, read, locked, listed.

How items ended is kept as a tally, one narrow row for each end, folded now and then: counting 100,000 requests takes
longer than anybody who looks should wait, and a counter that every end updates would make gangs wait for each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import text

from orchestrator.domain.batches import BatchView, Counts
from orchestrator.domain.states import BATCH_OVER, BatchState
from orchestrator.errors import NotFound
from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared

RATE_OVER = timedelta(seconds=60)
"""How far back the rate looks."""
_FOLD_FROM = 64
"""Rows of a tally that are worth folding."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A batch in figures."""

    counts: Counts
    recent: int
    """Items that ended lately."""
    recent_s: float
    """In how many seconds."""
    run_s: float
    gpu_seconds: float
    gangs: int


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A batch with its figures."""

    row: Record
    progress: Progress
    refusals: Sequence[Record] = field(default_factory=tuple)
    """The first of them."""


_FIGURES = f"""
SELECT b.*, coalesce(t.succeeded, 0) AS succeeded, coalesce(t.failed, 0) AS failed,
       coalesce(t.canceled, 0) AS canceled, coalesce(t.expired, 0) AS expired,
       coalesce(t.run_s, 0) AS run_s, coalesce(t.gpu_seconds, 0) AS gpu_seconds, coalesce(t.recent, 0) AS recent,
       extract(epoch FROM least(coalesce(b.finished_at, clock_timestamp()) - b.started_at,
                                interval '{RATE_OVER.total_seconds():.0f} seconds')) AS recent_s,
       b.expires_at <= clock_timestamp() AS too_late,
       (SELECT count(*) FROM batch_refusal f WHERE f.batch_id = b.id) AS refused,
       (SELECT count(*) FROM request r WHERE r.batch_id = b.id AND r.gang_id IS NOT NULL) AS leased,
       (SELECT count(*) FROM gang g WHERE g.batch_id = b.id AND g.state <> 'gone') AS gangs
FROM batch b LEFT JOIN LATERAL (
  SELECT sum(t.items) FILTER (WHERE t.state = 'succeeded') AS succeeded,
         sum(t.items) FILTER (WHERE t.state = 'failed') AS failed,
         sum(t.items) FILTER (WHERE t.state = 'canceled') AS canceled,
         sum(t.items) FILTER (WHERE t.state = 'expired') AS expired,
         sum(t.run_s) AS run_s, sum(t.gpu_seconds) AS gpu_seconds,
         sum(t.items) FILTER (WHERE t.at > clock_timestamp() - interval '{RATE_OVER.total_seconds():.0f} seconds'
                              AND t.state IN ('succeeded', 'failed')) AS recent
  FROM batch_tally t WHERE t.batch_id = b.id) t ON true
"""
_GET = prepared(f"{_FIGURES} WHERE b.id = :id AND b.tenant = :t")
_LIST = text(
    f"{_FIGURES} WHERE b.tenant = :t AND (:states = '{{}}' OR b.state = ANY(:states))"
    " AND b.labels @> CAST(:labels AS jsonb)"
    " AND (CAST(:before AS text) IS NULL OR (b.created_at, b.id) < (CAST(:before_at AS timestamptz), :before))"
    " ORDER BY b.created_at DESC, b.id DESC LIMIT :n"
)
_IS_THERE = prepared("SELECT EXISTS (SELECT FROM batch WHERE id = :b)")
_REFUSALS = prepared("SELECT * FROM batch_refusal WHERE batch_id = :b ORDER BY line LIMIT :n")
_REFUSALS_BETWEEN = text(
    "SELECT * FROM batch_refusal WHERE batch_id = :b AND line > :after"
    " AND (CAST(:until AS int) IS NULL OR line < :until) ORDER BY line"
)


def get(tx: Tx, tenant: str, batch_id: str, refusals: int = 0) -> Shown:
    """With its first so many refusals. Raises NotFound, also for another tenant's."""
    row = tx.execute(_GET, {"id": batch_id, "t": tenant}).one_or_none()
    if row is None:
        raise not_found(batch_id)
    listed = tx.execute(_REFUSALS, {"b": batch_id, "n": refusals}).all() if refusals and row.refused else ()
    return Shown(row=row, progress=_progress(row), refusals=listed)


def is_there(tx: Tx, batch_id: str) -> bool:
    """Whether it is known still."""
    return bool(tx.execute(_IS_THERE, {"b": batch_id}).scalar_one())


def not_found(batch_id: str) -> NotFound:
    return NotFound(f"no batch {batch_id!r}")


def list_page(
    tx: Tx,
    tenant: str,
    *,
    states: Sequence[str],
    before: tuple[str, str] | None,
    limit: int,
    labels: Mapping[str, str] | None = None,
) -> Sequence[Shown]:
    """Newest first, those with all the labels; `before` is (created_at, id) of the last one of the page before."""
    at, key = before or (None, None)
    all_of = json.dumps(dict(labels or {}))
    values = {"t": tenant, "states": list(states), "labels": all_of, "before_at": at, "before": key, "n": limit}
    return [Shown(row=row, progress=_progress(row)) for row in tx.execute(_LIST, values)]


def refused_between(tx: Tx, batch_id: str, after: int, until: int | None) -> Sequence[Record]:
    """Lines that are no items, in order, those after a line and before another one."""
    return tx.execute(_REFUSALS_BETWEEN, {"b": batch_id, "after": after, "until": until}).all()


def _progress(row: Record) -> Progress:
    return Progress(
        counts=counts(row),
        recent=int(row.recent),
        recent_s=float(row.recent_s or 0.0),
        run_s=float(row.run_s),
        gpu_seconds=float(row.gpu_seconds),
        gangs=row.gangs,
    )


def counts(row: Record) -> Counts:
    """Of a row with its figures."""
    return Counts(
        items=row.items,
        leased=row.leased,
        succeeded=int(row.succeeded),
        failed=int(row.failed),
        canceled=int(row.canceled),
        expired=int(row.expired),
        refused=row.refused,
    )


def view(row: Record) -> BatchView:
    """As its decision sees a row with its figures."""
    return BatchView(
        state=BatchState(row.state),
        ending=BatchState(row.ending) if row.ending else None,
        counts=counts(row),
        max_failed=row.max_failed,
        stops=row.on_max_failed == "stop",
        forgiven=row.forgiven,
        too_late=bool(row.too_late),
    )


_FOLD_TALLY = text(f"""
WITH old AS (
  DELETE FROM batch_tally WHERE batch_id = :b AND (SELECT count(*) FROM batch_tally WHERE batch_id = :b) > {_FOLD_FROM}
  RETURNING *
)
INSERT INTO batch_tally (batch_id, state, at, items, run_s, gpu_seconds)
SELECT batch_id, state, period, sum(items), sum(run_s), sum(gpu_seconds)
FROM (SELECT *, CASE WHEN at < clock_timestamp() - 2 * interval '{RATE_OVER.total_seconds():.0f} seconds'
             THEN to_timestamp(0) ELSE to_timestamp(floor(extract(epoch FROM at) / 5) * 5) END AS period FROM old) o
GROUP BY batch_id, state, period
""")


def fold_tally(tx: Tx, batch_id: str) -> None:
    """Fewer rows, the same sums. The caller holds the batch's row."""
    tx.execute(_FOLD_TALLY, {"b": batch_id})


_IS_OFF = prepared("""
SELECT b.items <> (SELECT coalesce(sum(t.items), 0) FROM batch_tally t WHERE t.batch_id = b.id)
   AND NOT EXISTS (SELECT FROM request r WHERE r.batch_id = b.id AND r.gang_id IS NOT NULL)
   AND NOT EXISTS (SELECT FROM request r WHERE r.batch_id = b.id AND r.state = 'queued')
FROM batch b WHERE b.id = :b
""")


def is_off(tx: Tx, batch_id: str) -> bool:
    """Whether the tally knows of open items where there are none: the batch would never be over. In one snapshot."""
    return bool(tx.execute(_IS_OFF, {"b": batch_id}).scalar_one())


_RECOUNT = text("""
WITH old AS (DELETE FROM batch_tally WHERE batch_id = :b)
INSERT INTO batch_tally (batch_id, state, at, items, run_s, gpu_seconds)
SELECT :b, r.state, to_timestamp(0), count(*) FILTER (WHERE r.replaced_by IS NULL), sum(u.run_s), sum(u.gpu_seconds)
FROM request r JOIN usage u ON u.request_id = r.id WHERE r.batch_id = :b GROUP BY r.state
""")


def recount(tx: Tx, batch_id: str) -> None:
    """Make the tally anew from the items: an older replica may have ended some without it. Reads all of them."""
    tx.execute(_RECOUNT, {"b": batch_id})


def lock(tx: Tx, batch_id: str, *, patient: bool = False) -> Record | None:
    """The batch, locked, with its figures as of then. None: it is over, or another replica holds it."""
    skip = "" if patient else " SKIP LOCKED"
    if tx.execute(text(f"SELECT FROM batch WHERE id = :id FOR UPDATE{skip}"), {"id": batch_id}).one_or_none() is None:
        return None
    row = tx.execute(text(f"{_FIGURES} WHERE b.id = :id"), {"id": batch_id}).one()
    return row if patient or row.state not in BATCH_OVER else None


def lock_own(tx: Tx, tenant: str, batch_id: str) -> Record:
    """As `lock`, waiting for it, whatever its state. Raises NotFound, also for another tenant's."""
    row = lock(tx, batch_id, patient=True)
    if row is None or row.tenant != tenant:
        raise not_found(batch_id)
    return row
