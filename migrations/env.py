"""Alembic's entry: runs the migrations over a connection that orchestrator.store.schema hands in."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

connection: Connection | None = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run `muster migrate`; it locks, migrates and commits in one transaction")
context.configure(connection=connection, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
