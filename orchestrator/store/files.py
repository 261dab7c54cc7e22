"""Uploads: known before their first byte is stored, so that none is forgotten; whole once they have a sha256."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import text

from orchestrator.errors import NotFound
from orchestrator.store.database import Record, Tx
from orchestrator.store.naming import HELD, HOLD, NAMED

UPLOAD = timedelta(days=1)
"""An upload that is not whole by then was given up."""


def begin(tx: Tx, *, file_id: str, tenant: str, name: str, uri: str) -> None:
    tx.execute(
        text(
            "INSERT INTO file (id, tenant, name, uri, expires_at)"
            " VALUES (:id, :tenant, :name, :uri, clock_timestamp() + :s * interval '1 second')"
        ),
        {"id": file_id, "tenant": tenant, "name": name, "uri": uri, "s": UPLOAD.total_seconds()},
    )


def complete(tx: Tx, file_id: str, size: int, sha256: str, keep: timedelta) -> Record:
    """All its bytes are stored. Raises NotFound if that took so long that it was given up."""
    row = tx.execute(
        text(
            "UPDATE file SET bytes = :n, sha256 = :d, expires_at = clock_timestamp() + :s * interval '1 second'"
            " WHERE id = :id AND sha256 IS NULL AND NOT removing RETURNING *"
        ),
        {"id": file_id, "n": size, "d": sha256, "s": keep.total_seconds()},
    ).one_or_none()
    if row is None:
        raise NotFound(f"the upload {file_id} took too long; send it again")
    return row


def give_up(tx: Tx, file_id: str) -> None:
    """An upload broke off: what is stored of it goes with the next pass of upkeep."""
    tx.execute(text("UPDATE file SET expires_at = clock_timestamp() WHERE id = :id"), {"id": file_id})


def get(tx: Tx, tenant: str, file_id: str) -> Record:
    row = tx.execute(
        text("SELECT * FROM file WHERE id = :id AND tenant = :t AND sha256 IS NOT NULL AND NOT removing"),
        {"id": file_id, "t": tenant},
    ).one_or_none()
    if row is None:
        raise NotFound(f"no file {file_id}")
    return row


def hold(tx: Tx, tenant: str, file_id: str) -> Record:
    """A whole upload of the tenant, which from now stays until a request that is about to be recorded has its row."""
    row = tx.execute(
        text(
            f"UPDATE file SET {HELD} WHERE id = :id AND tenant = :t AND sha256 IS NOT NULL AND NOT removing RETURNING *"
        ),
        {"id": file_id, "t": tenant, "hold": HOLD.total_seconds()},
    ).one_or_none()
    if row is None:
        raise NotFound(f"no file {file_id}")
    return row


_DOOM = text(f"""
WITH due AS MATERIALIZED (
  SELECT id, tenant FROM file WHERE expires_at <= (SELECT clock_timestamp())
), {NAMED}, chosen AS (
  SELECT f.id FROM file f JOIN due d USING (id) WHERE f.expires_at <= (SELECT clock_timestamp())
    AND (f.removing OR NOT EXISTS (SELECT FROM named n WHERE n.tenant = d.tenant AND n.file = d.id))
  ORDER BY f.expires_at LIMIT :n FOR UPDATE OF f SKIP LOCKED
)
UPDATE file SET removing = true FROM chosen WHERE file.id = chosen.id RETURNING file.id, file.uri
""")


def doom(tx: Tx, limit: int = 100) -> Sequence[Record]:
    """Files whose bytes are to go: expired, and named by no open request. From here no request may name them."""
    return tx.execute(_DOOM, {"n": limit}).all()


def forget(tx: Tx, file_id: str) -> None:
    """Its bytes are gone."""
    tx.execute(text("DELETE FROM file WHERE id = :id AND removing"), {"id": file_id})
