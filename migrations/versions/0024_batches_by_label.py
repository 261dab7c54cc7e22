"""Batches are found by their labels."""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX batch_labels ON batch USING gin (labels jsonb_path_ops)")


def downgrade() -> None:
    op.execute("DROP INDEX batch_labels")
