"""What a rank-error says beyond its words: a code, and where every rank of a gang stood."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE rank_error ADD COLUMN code text, ADD COLUMN stacks jsonb")


def downgrade() -> None:
    op.execute("ALTER TABLE rank_error DROP COLUMN code, DROP COLUMN stacks")
