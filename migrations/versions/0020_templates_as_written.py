"""Templates in the order in which their author wrote them: forms and copies show it, jsonb forgets it."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE pool ADD COLUMN written json")


def downgrade() -> None:
    op.execute("ALTER TABLE pool DROP COLUMN written")
