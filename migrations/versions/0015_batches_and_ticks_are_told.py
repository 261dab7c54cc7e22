"""Webhooks hear of batches and ticks: what else a message says, how often a schedule was told. Batches that expire."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
ALTER TABLE delivery ADD COLUMN more jsonb NOT NULL DEFAULT '{}';
ALTER TABLE schedule ADD COLUMN told int NOT NULL DEFAULT 0;
CREATE INDEX batch_over ON batch (finished_at) WHERE next_check_at IS NULL;
""")


def downgrade() -> None:
    op.execute("""
DROP INDEX batch_over;
ALTER TABLE schedule DROP COLUMN told;
ALTER TABLE delivery DROP COLUMN more;
""")
