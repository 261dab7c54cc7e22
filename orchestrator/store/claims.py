"""Who holds a name that a caller gave a request: an idempotency key for a day, an ID of its own for good."""

from __future__ import annotations

from sqlalchemy import text

from orchestrator.errors import Invalid
from orchestrator.store.database import Tx


def replayed(tx: Tx, tenant: str, key: str, body_digest: bytes) -> str | None:
    """The request that holds the idempotency key, if it was sent with the same body; None if nobody holds the key."""
    row = tx.execute(
        text("SELECT id, body_digest FROM request WHERE tenant = :t AND idempotency_key = :k"), {"t": tenant, "k": key}
    ).one_or_none()
    if row is None:
        return None
    if bytes(row.body_digest) != body_digest:
        raise Invalid(
            f"Idempotency-Key {key!r} was used with another body; choose a new key", code="idempotency_key_reused"
        )
    return str(row.id)


def same(tx: Tx, tenant: str, request_id: str, body_digest: bytes) -> str | None:
    """The request itself, if this tenant recorded it under the ID with the same body; None if the ID is free.

    Raises Invalid for every other use of the ID, in the same words: whether another tenant has it is not told.
    """
    row = tx.execute(
        text(
            "SELECT tenant, body_digest FROM request WHERE id = :id"
            " UNION ALL SELECT NULL, '' FROM purged WHERE id = :id"
        ),
        {"id": request_id},
    ).one_or_none()
    if row is None:
        return None
    if row.tenant != tenant or bytes(row.body_digest) != body_digest:
        raise Invalid(
            f"{request_id} cannot be given to this request: the ID was used before; choose a new one",
            code="request_id_reused",
        )
    return request_id


def forget_idempotency_keys(tx: Tx) -> int:
    """Free the keys of requests older than 24 h."""
    moved = tx.execute(
        text(
            "UPDATE request SET idempotency_key = NULL WHERE idempotency_key IS NOT NULL"
            " AND created_at < clock_timestamp() - interval '24 hours'"
        )
    )
    return moved.rowcount
