"""How the pods of each incarnation came: on a machine, started. Incarnations of before, and of processes, have none.

A replica of version N-1 leaves the table alone.
"""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE gang_arrival (
          gang_id      text NOT NULL,
          incarnation  int NOT NULL CHECK (incarnation > 0),
          scheduled_at timestamptz,
          started_at   timestamptz,
          word         text,
          PRIMARY KEY (gang_id, incarnation)
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE gang_arrival")
