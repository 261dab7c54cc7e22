"""What is known of a gang that starts: the phase that its ranks are in, and the backend's word on it."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE gang_beat ADD COLUMN starting text, ADD COLUMN starting_at timestamptz")
    op.execute("ALTER TABLE gang ADD COLUMN seen_reason text, ADD COLUMN seen_detail text")


def downgrade() -> None:
    op.execute("ALTER TABLE gang DROP COLUMN seen_detail, DROP COLUMN seen_reason")
    op.execute("ALTER TABLE gang_beat DROP COLUMN starting_at, DROP COLUMN starting")
