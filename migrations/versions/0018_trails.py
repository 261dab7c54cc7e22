"""The phases of each run, as its gang says them: `{"began": seconds since 1970, "phases": [[name, at_s], …]}`.

An attempt of before has none. A replica of version N-1 leaves the column alone.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE attempt ADD COLUMN trail jsonb")


def downgrade() -> None:
    op.execute("ALTER TABLE attempt DROP COLUMN trail")
