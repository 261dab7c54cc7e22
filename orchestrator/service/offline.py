"""What an operator does straight in the database, without a service: the schema, first tokens, tenants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from orchestrator.errors import Invalid
from orchestrator.store import schema, tenants, tokens
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.tokens import Scope

T = TypeVar("T")


def migrate(database_url: str) -> str:
    """Bring the schema to the newest revision and return it."""
    database = Database(database_url, connections=1)
    try:
        return schema.migrate(database)
    finally:
        database.close()


def first_token(
    database_url: str,
    *,
    name: str,
    scopes: Sequence[str],
    expires_in: timedelta | None = None,
    tenant: str = "default",
) -> str:
    """A token made straight in the database, for the first person of a tenant. Raises Invalid."""
    unknown = sorted(set(scopes) - set(Scope))
    if unknown:
        raise Invalid(f"no scope {unknown[0]!r}; there are {', '.join(Scope)}")
    granted = [Scope(scope) for scope in scopes]

    def work(tx: Tx) -> str:
        if tenant not in {row.id for row in tenants.list_all(tx)}:
            raise Invalid(f"no tenant {tenant!r}: `muster tenant set {tenant}` makes it")
        return tokens.create(tx, tenant=tenant, name=name, scopes=granted, expires_in=expires_in)[1]

    return _once(database_url, work)


def set_tenant(database_url: str, name: str, bounds: Mapping[str, float | None]) -> dict[str, Any]:
    """Make a tenant, or change its bounds, straight in the database. Raises Invalid."""
    return _once(database_url, lambda tx: _shown(tenants.set_bounds(tx, name, bounds)))


def list_tenants(database_url: str) -> list[dict[str, Any]]:
    """Every tenant with its bounds."""
    return _once(database_url, lambda tx: [_shown(row) for row in tenants.list_all(tx)])


def _shown(tenant: Record) -> dict[str, Any]:
    return {name: getattr(tenant, name) for name in ("id", *tenants.BOUNDS)}


def _once(database_url: str, work: Callable[[Tx], T]) -> T:
    """One transaction of a command that needs no service."""
    database = Database(database_url, connections=1)
    try:
        return database.transact(work)
    finally:
        database.close()
