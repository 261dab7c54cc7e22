"""Webhooks: who listens, what signs, and the outbox that every announced move writes into."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE TABLE webhook (
  id          text PRIMARY KEY,
  tenant      text NOT NULL REFERENCES tenant,
  hears       text NOT NULL,
  lane        text NOT NULL,
  url         text NOT NULL,
  events      text[] NOT NULL CHECK (cardinality(events) > 0),
  signed_by   text NOT NULL,
  digest      bytea,
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  hears_since timestamptz NOT NULL DEFAULT clock_timestamp(),
  pings       int NOT NULL DEFAULT 0,
  disabled_at timestamptz,
  disabled    text,
  CHECK ((disabled_at IS NULL) = (disabled IS NULL))
);
CREATE INDEX webhook_hears ON webhook (hears);
CREATE UNIQUE INDEX webhook_of_request ON webhook (hears, tenant, digest) WHERE digest IS NOT NULL;
CREATE INDEX webhook_age ON webhook (created_at) WHERE digest IS NOT NULL;

CREATE TABLE webhook_secret (
  owner      text NOT NULL,
  generation int NOT NULL,
  key_id     text NOT NULL,
  nonce      text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz,
  PRIMARY KEY (owner, generation)
);

CREATE TABLE delivery (
  webhook_id  text NOT NULL,
  subject     text NOT NULL,
  seq         int NOT NULL,
  lane        text NOT NULL,
  type        text NOT NULL,
  status      text NOT NULL,
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
  tries       int NOT NULL DEFAULT 0,
  next_at     timestamptz DEFAULT clock_timestamp(),
  claim       text,
  last_at     timestamptz,
  last_status int,
  last_error  text,
  PRIMARY KEY (webhook_id, subject, seq),
  CHECK ((state = 'pending') = (next_at IS NOT NULL)),
  CHECK (state <> 'delivered' OR last_status BETWEEN 200 AND 299)
) WITH (fillfactor = 80);
CREATE INDEX delivery_due ON delivery (lane, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX delivery_list ON delivery (webhook_id, at DESC);
CREATE INDEX delivery_over ON delivery (last_at) WHERE next_at IS NULL;
""")


def downgrade() -> None:
    op.execute("DROP TABLE delivery, webhook_secret, webhook")
