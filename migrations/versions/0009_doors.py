"""What the REST API needs: filters of the list, signed cursors, requests that were deleted, logs that are followed.

The hot table `request` gets two indexes that every request enters; the others hold only what is rare in them.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE INDEX request_list_open ON request (tenant, created_at DESC, id DESC) WHERE next_check_at IS NOT NULL;
CREATE INDEX request_list_template ON request (tenant, template, created_at DESC, id DESC);
CREATE INDEX request_list_failed ON request (tenant, state, created_at DESC, id DESC)
  WHERE state IN ('failed', 'canceled', 'expired');
CREATE INDEX request_list_mode ON request (tenant, mode, created_at DESC, id DESC) WHERE mode <> 'auto';
CREATE TABLE request_label (
  tenant     text NOT NULL,
  key        text NOT NULL,
  value      text NOT NULL,
  created_at timestamptz NOT NULL,
  request_id text NOT NULL REFERENCES request ON DELETE CASCADE,
  PRIMARY KEY (request_id, key)
);
CREATE INDEX request_label_list ON request_label (tenant, key, value, created_at DESC, request_id DESC);
INSERT INTO request_label (tenant, key, value, created_at, request_id)
  SELECT r.tenant, l.key, l.value, r.created_at, r.id
  FROM request r JOIN payload p ON p.request_id = r.id, jsonb_each_text(p.labels) l;

CREATE TABLE secret (
  name       text PRIMARY KEY,
  value      bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE purged (
  id         text PRIMARY KEY,
  tenant     text NOT NULL,
  purged_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  removed_at timestamptz
);
CREATE INDEX purged_at ON purged (purged_at);

CREATE INDEX log_chunk_stream ON log_chunk (request_id, gang_id, incarnation, rank, seq) WHERE request_id IS NOT NULL;
""")


def downgrade() -> None:
    op.execute("""
DROP INDEX log_chunk_stream;
DROP TABLE purged, secret, request_label;
DROP INDEX request_list_open, request_list_template, request_list_failed, request_list_mode;
""")
