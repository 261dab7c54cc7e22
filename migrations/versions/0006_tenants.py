"""What a tenant may have at once and how fast it may ask, where that differs from the settings of the installation."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0010"
branch_labels = None
depends_on = None

COLUMNS = {
    "max_open": "int CHECK (max_open >= 0)",
    "max_queued": "int CHECK (max_queued >= 0)",
    "max_waits": "int CHECK (max_waits >= 0)",
    "submit_rate": "float8 CHECK (submit_rate >= 0)",
}


def upgrade() -> None:
    op.execute("ALTER TABLE tenant " + ", ".join(f"ADD COLUMN {name} {kind}" for name, kind in COLUMNS.items()))


def downgrade() -> None:
    op.execute("ALTER TABLE tenant " + ", ".join(f"DROP COLUMN {name}" for name in COLUMNS))
