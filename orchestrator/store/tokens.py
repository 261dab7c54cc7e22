"""API tokens: only their hashes are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import text

from orchestrator.domain.access import Identity, Permission
from orchestrator.domain.ids import new_id, new_token
from orchestrator.errors import Invalid, NotFound
from orchestrator.store.database import Record, Tx


class Scope(StrEnum):
    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


SCOPE_OF: Mapping[Permission, Scope] = {
    Permission.SEE: Scope.READ,
    Permission.SUBMIT: Scope.SUBMIT,
    Permission.CANCEL: Scope.SUBMIT,
    Permission.STEER: Scope.SUBMIT,
    Permission.MANAGE: Scope.ADMIN,
    Permission.ADMINISTER: Scope.ADMIN,
}
"""The least scope that grants each. ADMIN grants all of them."""


def permissions(scopes: Collection[Scope]) -> frozenset[Permission]:
    return frozenset(one for one, scope in SCOPE_OF.items() if scope in scopes or Scope.ADMIN in scopes)


def digest(token: str) -> bytes:
    """What is stored of a token. Tokens are 256 random bits: a plain hash is enough."""
    return hashlib.sha256(token.encode()).digest()


def create(
    tx: Tx, *, tenant: str, name: str, scopes: Sequence[Scope], expires_in: timedelta | None = None
) -> tuple[str, str]:
    """A new token: (id, the token itself), which is shown this once."""
    if not scopes:
        raise Invalid("a token needs at least one scope: read, submit or admin", pointer="/scopes")
    token_id, token = new_id("tok"), f"mst_{new_token()}"
    tx.execute(
        text(
            "INSERT INTO token (id, tenant, name, scopes, hash, expires_at)"
            " VALUES (:id, :tenant, :name, :scopes, :hash, clock_timestamp() + :seconds * interval '1 second')"
        ),
        {
            "id": token_id,
            "tenant": tenant,
            "name": name,
            "scopes": [str(scope) for scope in scopes],
            "hash": digest(token),
            "seconds": None if expires_in is None else expires_in.total_seconds(),
        },
    )
    return token_id, token


def identify(tx: Tx, token: str) -> tuple[Identity, datetime | None] | None:
    """Who bears the token and until when it is good; None if it is not."""
    return _good(tx, "hash = :it", digest(token))


def bearer_of(tx: Tx, token_id: str) -> Identity | None:
    """Whoever has the token with this ID, if it is good still."""
    found = _good(tx, "id = :it", token_id)
    return found and found[0]


def _good(tx: Tx, which: str, it: bytes | str) -> tuple[Identity, datetime | None] | None:
    query = text(
        f"SELECT id, tenant, scopes, expires_at FROM token WHERE {which} AND revoked_at IS NULL"
        " AND (expires_at IS NULL OR expires_at > clock_timestamp())"
    )
    row = tx.execute(query, {"it": it}).one_or_none()
    if row is None:
        return None
    granted = permissions([Scope(scope) for scope in row.scopes])
    return Identity(name=row.id, tenant=row.tenant, permissions=granted), row.expires_at


def list_all(tx: Tx, tenant: str) -> Sequence[Record]:
    return tx.execute(
        text("SELECT id, name, scopes, created_at, expires_at, revoked_at FROM token WHERE tenant = :t ORDER BY id"),
        {"t": tenant},
    ).all()


def prolong(tx: Tx, token_id: str, expires_in: timedelta) -> None:
    """Good for this long from now, also if it had expired; a revoked one stays so."""
    tx.execute(
        text("UPDATE token SET expires_at = clock_timestamp() + :seconds * interval '1 second' WHERE id = :id"),
        {"id": token_id, "seconds": expires_in.total_seconds()},
    )


def revoke_leftover(tx: Tx, token: str) -> None:
    """Revoke by the token itself, if it is known."""
    tx.execute(
        text("UPDATE token SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE hash = :hash"),
        {"hash": digest(token)},
    )


def revoke(tx: Tx, tenant: str, token_id: str) -> None:
    moved = tx.execute(
        text("UPDATE token SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE tenant = :t AND id = :id"),
        {"t": tenant, "id": token_id},
    )
    if moved.rowcount == 0:
        raise NotFound(f"no token {token_id}")
