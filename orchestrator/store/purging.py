"""Requests that their tenant deleted: what is said of them goes at once, the files soon after, a mark stays.

The mark tells an ID that was used from one that never was, and is the intent by which the files are removed. With it
stay for 90 days, without a word of what the request was: that a gang ran an attempt, and what was used.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import text

from orchestrator.domain.states import TERMINAL, RequestState
from orchestrator.errors import Conflict
from orchestrator.store.database import Record, Tx
from orchestrator.store.naming import NAMED
from orchestrator.store.requests import missing

SETTLE = timedelta(seconds=10)
"""How long the files stay: a request that was about to name one of them has its row by then."""
AGAIN = timedelta(hours=1)
"""When they are removed once more: a rank that outlived its lease may have written after the first time."""

OWN = ("payload", "progress", "result", "output", "log_chunk")


def purge(tx: Tx, tenant: str, request_id: str) -> None:
    """Delete a terminal request. Raises NotFound, or Conflict `not_terminal`."""
    row = tx.execute(
        text("SELECT state, batch_id FROM request WHERE id = :id AND tenant = :tenant FOR UPDATE"),
        {"id": request_id, "tenant": tenant},
    ).one_or_none()
    if row is None:
        raise missing(tx, tenant, request_id)
    if RequestState(row.state) not in TERMINAL:
        raise not_terminal(request_id, row.state)
    if row.batch_id is not None:
        raise Conflict(f"request {request_id} is an item: batch {row.batch_id} needs it", code="item_of_batch")
    key = {"id": request_id, "tenant": tenant, "settle": SETTLE.total_seconds()}
    tx.execute(_MARK, key)
    for table in OWN:
        tx.execute(text(f"DELETE FROM {table} WHERE request_id = :id"), key)
    tx.execute(text("DELETE FROM rank_error WHERE attempt_id IN (SELECT id FROM attempt WHERE request_id = :id)"), key)
    tx.execute(text("UPDATE attempt SET reason = NULL, trail = NULL WHERE request_id = :id"), key)
    tx.execute(text("DELETE FROM event WHERE subject = :id"), key)
    tx.execute(text("DELETE FROM request WHERE id = :id"), key)


def not_terminal(request_id: str, state: str) -> Conflict:
    return Conflict(f"request {request_id} is {state}: cancel it or let it end first", code="not_terminal")


_MARK = text(
    "INSERT INTO purged (id, tenant, remove_at)"
    " VALUES (:id, :tenant, clock_timestamp() + :settle * interval '1 second')"
)
KEPT = timedelta(days=90)
"""How long an ID is known to have been used, and what was used is counted, once all else is gone."""
_FORGET = text("""
WITH old AS (
  DELETE FROM purged WHERE id IN (SELECT id FROM purged WHERE remove_at IS NULL
    AND purged_at < (SELECT clock_timestamp()) - :s * interval '1 second' LIMIT 10000) RETURNING id
), attempts AS (DELETE FROM attempt WHERE request_id IN (SELECT id FROM old)),
usages AS (DELETE FROM usage WHERE request_id IN (SELECT id FROM old))
SELECT count(*) FROM old
""")


def forget(tx: Tx) -> int:
    """Marks whose files are long gone, with the last that was known of them; says how many."""
    gone: int = tx.execute(_FORGET, {"s": KEPT.total_seconds()}).scalar_one()
    return gone


_REMOVABLE = text(f"""
WITH due AS MATERIALIZED (
  SELECT id, tenant, remove_at FROM purged WHERE remove_at <= (SELECT clock_timestamp())
), {NAMED}, needed AS MATERIALIZED (
  SELECT DISTINCT split_part(substr(uri, length(:prefix) + 1), '/', 1) AS tenant,
         split_part(substr(uri, length(:prefix) + 1), '/', 2) AS id
  FROM named WHERE starts_with(uri, :prefix)
)
SELECT d.id, d.tenant FROM due d WHERE NOT EXISTS (SELECT FROM needed n WHERE (n.tenant, n.id) = (d.tenant, d.id))
ORDER BY d.remove_at LIMIT :n
""")
"""What a request wrote lies in `<prefix><tenant>/<id>/`."""
_REMOVED = text("""
UPDATE purged SET remove_at = CASE WHEN remove_at < purged_at + :again * interval '1 second'
  THEN purged_at + :again * interval '1 second' END
WHERE id = :id
""")


def removable(tx: Tx, storage_url: str, limit: int = 100) -> Sequence[Record]:
    """`id` and `tenant` of purged requests whose files are to go, for no open request names one of them."""
    return tx.execute(_REMOVABLE, {"prefix": storage_url.rstrip("/") + "/", "n": limit}).all()


def removed(tx: Tx, request_id: str) -> None:
    """Its files are gone, for the first time or for good."""
    tx.execute(_REMOVED, {"id": request_id, "again": AGAIN.total_seconds()})
