"""Requests that were deleted are marked for good; only those whose files are to go are looked for."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
DROP INDEX purged_at;
ALTER TABLE purged DROP COLUMN removed_at, ADD COLUMN remove_at timestamptz;
CREATE INDEX purged_due ON purged (remove_at) WHERE remove_at IS NOT NULL;
""")


def downgrade() -> None:
    op.execute("""
ALTER TABLE purged DROP COLUMN remove_at, ADD COLUMN removed_at timestamptz;
CREATE INDEX purged_at ON purged (purged_at);
""")
