"""Keys that all replicas of an installation share, made when the first of them asks."""

from __future__ import annotations

import secrets

from sqlalchemy import text

from orchestrator.store.database import Tx


def named(tx: Tx, name: str) -> bytes:
    """256 random bits, the same for all who ask for this name."""
    row = tx.execute(text("SELECT value FROM secret WHERE name = :n"), {"n": name}).one_or_none()
    if row is None:
        tx.execute(
            text("INSERT INTO secret (name, value) VALUES (:n, :v) ON CONFLICT DO NOTHING"),
            {"n": name, "v": secrets.token_bytes(32)},
        )
        row = tx.execute(text("SELECT value FROM secret WHERE name = :n"), {"n": name}).one()
    return bytes(row.value)
