"""Traces: what the caller of a request or a batch said of the trace that it belongs to."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE payload ADD COLUMN traceparent text, ADD COLUMN tracestate text")
    op.execute("ALTER TABLE batch ADD COLUMN traceparent text")


def downgrade() -> None:
    op.execute("ALTER TABLE batch DROP COLUMN traceparent")
    op.execute("ALTER TABLE payload DROP COLUMN tracestate, DROP COLUMN traceparent")
