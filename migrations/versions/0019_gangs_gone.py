"""Gangs that are gone, by their end: the pages list them, and count what gangs of the last day had."""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX gang_gone ON gang (tenant, gone_at DESC, id DESC) WHERE state = 'gone'")


def downgrade() -> None:
    op.execute("DROP INDEX gang_gone")
