"""Outputs of requests: where they lie, and until when. An expired one leaves its row, so that people learn why."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text

from orchestrator.errors import NotFound
from orchestrator.store.database import Record, Tx
from orchestrator.store.naming import HELD, HOLD, NAMED
from orchestrator.store.requests import peek


def get(tx: Tx, tenant: str, request_id: str, name: str) -> Record:
    """One output. Raises NotFound, with the code `output_expired` for what was there."""
    peek(tx, tenant, request_id)
    row = tx.execute(
        text("SELECT * FROM output WHERE request_id = :id AND name = :name"), {"id": request_id, "name": name}
    ).one_or_none()
    return _there(row, request_id, name)


def hold(tx: Tx, tenant: str, request_id: str, name: str) -> Record:
    """The same, which from now stays until a request that is about to be recorded has its row."""
    peek(tx, tenant, request_id)
    row = tx.execute(
        text(
            f"UPDATE output SET {HELD} WHERE request_id = :id AND name = :name"
            " AND expires_at IS NOT NULL AND NOT expired RETURNING *"
        ),
        {"id": request_id, "name": name, "hold": HOLD.total_seconds()},
    ).one_or_none()
    return row or get(tx, tenant, request_id, name)


_EXPIRE = text(f"""
WITH due AS MATERIALIZED (
  SELECT o.request_id, o.name, o.uri, (SELECT r.tenant FROM request r WHERE r.id = o.request_id) AS tenant
  FROM output o WHERE o.expires_at <= (SELECT clock_timestamp()) AND NOT o.removed
), {NAMED}, chosen AS (
  SELECT o.request_id, o.name FROM output o JOIN due d USING (request_id, name)
  WHERE o.expires_at <= (SELECT clock_timestamp()) AND NOT o.removed
    AND (o.expired OR NOT EXISTS (SELECT FROM named n WHERE n.tenant = d.tenant AND n.uri = d.uri))
  ORDER BY o.expires_at LIMIT :n FOR UPDATE OF o SKIP LOCKED
)
UPDATE output o SET expired = true FROM chosen c WHERE (o.request_id, o.name) = (c.request_id, c.name)
RETURNING o.request_id, o.name, o.uri
""")


def expire(tx: Tx, limit: int = 100) -> Sequence[Record]:
    """Outputs whose bytes are to go: their time is over, and no open request names them. From here none may."""
    return tx.execute(_EXPIRE, {"n": limit}).all()


def removed(tx: Tx, request_id: str, name: str) -> None:
    """The bytes of an expired output are gone."""
    tx.execute(
        text("UPDATE output SET removed = true WHERE request_id = :id AND name = :name AND expired"),
        {"id": request_id, "name": name},
    )


def _there(row: Record | None, request_id: str, name: str) -> Record:
    if row is None:
        raise NotFound(f"request {request_id} has no output {name!r}")
    if row.expired:
        raise NotFound(
            f"output {name!r} of {request_id} was kept until {row.expires_at:%Y-%m-%d %H:%M} UTC and is deleted",
            code="output_expired",
        )
    return row
