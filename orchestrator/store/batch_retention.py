"""Batches that were over long ago, or that their tenant deletes: all that is said of them and of their items goes.

Never one that is open, nor, unless its tenant says so, one of which an output is still kept. What stays for a while is
in purging.py: a mark for each ID, which is also the intent by which left files are removed.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text

from orchestrator.errors import Conflict
from orchestrator.store.batch_figures import lock_own
from orchestrator.store.database import Record, Tx
from orchestrator.store.purging import OWN, SETTLE

_CLAIM = text("""
SELECT b.id, b.tenant FROM batch b
WHERE b.next_check_at IS NULL AND b.finished_at < (SELECT clock_timestamp()) - :s * interval '1 second'
  AND NOT EXISTS (SELECT FROM request r JOIN output o ON o.request_id = r.id
                  WHERE r.batch_id = b.id AND NOT o.expired AND coalesce(o.expires_at, 'infinity') > clock_timestamp())
ORDER BY b.finished_at LIMIT 1 FOR UPDATE OF b SKIP LOCKED
""")
_PATIENTLY = text("SET LOCAL statement_timeout = '60s'")
_MARK = text("""
INSERT INTO purged (id, tenant, remove_at)
SELECT r.id, r.tenant, CASE WHEN r.attempts > 1 OR EXISTS (
    SELECT FROM output o WHERE o.request_id = r.id AND NOT o.removed
  ) THEN clock_timestamp() + :settle * interval '1 second' END
FROM request r WHERE r.batch_id = :b
UNION ALL SELECT :b, :tenant, NULL
ON CONFLICT DO NOTHING
""")
"""Files may be left of an item with an output, or with an attempt that was lost amid its outputs."""
_ITEMS = "SELECT id FROM request WHERE batch_id = :b"
_DELETES = (
    f"DELETE FROM rank_error WHERE attempt_id IN (SELECT id FROM attempt WHERE request_id IN ({_ITEMS}))",
    f"UPDATE attempt SET reason = NULL, trail = NULL WHERE request_id IN ({_ITEMS})",
    f"DELETE FROM event WHERE subject IN ({_ITEMS} UNION ALL SELECT :b)",
    *(f"DELETE FROM {table} WHERE request_id IN ({_ITEMS})" for table in OWN),
    "DELETE FROM request WHERE batch_id = :b",
    "DELETE FROM batch_refusal WHERE batch_id = :b",
    "DELETE FROM batch_tally WHERE batch_id = :b",
    "DELETE FROM batch WHERE id = :b",
)


def remove_one(tx: Tx, keep: timedelta) -> Record | None:
    """The batch that was over for longest, if longer ago than `keep`: gone in one transaction, or not at all."""
    batch = tx.execute(_CLAIM, {"s": keep.total_seconds()}).one_or_none()
    if batch is not None:
        _remove(tx, batch)
    return batch


def purge(tx: Tx, tenant: str, batch_id: str) -> None:
    """Remove a batch that is over at its tenant's word. Raises NotFound, or Conflict `not_terminal`."""
    batch = lock_own(tx, tenant, batch_id)
    if batch.next_check_at is not None:
        raise Conflict(f"batch {batch_id} is {batch.state}: cancel it or let it end first", code="not_terminal")
    _remove(tx, batch)


def _remove(tx: Tx, batch: Record) -> None:
    tx.execute(_PATIENTLY)
    tx.execute(_MARK, {"b": batch.id, "tenant": batch.tenant, "settle": SETTLE.total_seconds()})
    for statement in _DELETES:
        tx.execute(text(statement), {"b": batch.id})
