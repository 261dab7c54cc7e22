"""Gangs of several replicas: how many there are, and when each of their leaders was heard."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE gang ADD COLUMN replicas smallint NOT NULL DEFAULT 1 CHECK (replicas > 0)")
    op.execute("ALTER TABLE gang_beat ADD COLUMN heard timestamptz[]")


def downgrade() -> None:
    op.execute("ALTER TABLE gang_beat DROP COLUMN heard")
    op.execute("ALTER TABLE gang DROP COLUMN replicas")
