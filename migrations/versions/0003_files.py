"""Uploads that requests may name in their input, and what a gang needs to know of the files of a request."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE TABLE file (
  id         text PRIMARY KEY,
  tenant     text NOT NULL REFERENCES tenant,
  name       text NOT NULL,
  uri        text NOT NULL,
  bytes      bigint CHECK (bytes >= 0),
  sha256     text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  removing   boolean NOT NULL DEFAULT false,
  CHECK ((bytes IS NULL) = (sha256 IS NULL))
);
CREATE INDEX file_expiry ON file (expires_at);
ALTER TABLE payload ADD COLUMN files jsonb;
""")


def downgrade() -> None:
    op.execute("ALTER TABLE payload DROP COLUMN files; DROP TABLE file")
