"""How long the outputs of a request are kept, and which of them are gone. Requests of before keep theirs for good."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
ALTER TABLE request ADD COLUMN output_ttl_s float8 CHECK (output_ttl_s > 0);
ALTER TABLE output
  ADD COLUMN expires_at timestamptz,
  ADD COLUMN expired boolean NOT NULL DEFAULT false,
  ADD COLUMN removed boolean NOT NULL DEFAULT false,
  ADD CHECK (expired OR NOT removed);
CREATE INDEX output_expiry ON output (expires_at) WHERE expires_at IS NOT NULL AND NOT removed;
""")


def downgrade() -> None:
    op.execute(
        "ALTER TABLE request DROP COLUMN output_ttl_s;"
        " ALTER TABLE output DROP COLUMN expires_at, DROP COLUMN expired, DROP COLUMN removed"
    )
