"""Batches: many requests that were sent together, the gangs that drain them, and a tally of how their items end.

An item is a request with `batch_id`, its line and its `custom_id`. A second try of an item is a request of its own;
`replaced_by` of the first then names it, so that one request per line is current.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE batch (
  id               text PRIMARY KEY,
  tenant           text NOT NULL,
  template         text NOT NULL,
  template_version int NOT NULL,
  pool_id          text NOT NULL,
  state            text NOT NULL CHECK (state IN ('validating', 'queued', 'running', 'paused', 'finalizing',
                                                  'completed', 'canceled', 'expired', 'failed')),
  ending           text CHECK (ending IN ('completed', 'canceled', 'expired', 'failed')),
  outcome          text CHECK (outcome IN ('all_succeeded', 'partial', 'none_succeeded')),
  reason_code      text,
  reason           text,
  source           text,
  strict           boolean NOT NULL,
  max_parallel     int NOT NULL CHECK (max_parallel > 0),
  shared           boolean NOT NULL,
  max_failed       text,
  on_max_failed    text NOT NULL CHECK (on_max_failed IN ('stop', 'pause')),
  priority         smallint NOT NULL,
  labels           jsonb NOT NULL DEFAULT '{}',
  items            int NOT NULL DEFAULT 0 CHECK (items >= 0),
  forgiven         int NOT NULL DEFAULT 0,
  idempotency_key  text,
  body_digest      bytea NOT NULL,
  expire_after_s   float8 CHECK (expire_after_s > 0),
  expires_at       timestamptz,
  due_at           timestamptz NOT NULL,
  created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  accepted_at      timestamptz,
  started_at       timestamptz,
  finished_at      timestamptz,
  next_check_at    timestamptz,
  version          int NOT NULL DEFAULT 1,
  CHECK ((state IN ('completed', 'canceled', 'expired', 'failed')) = (finished_at IS NOT NULL)),
  CHECK ((state IN ('completed', 'canceled', 'expired', 'failed')) = (outcome IS NOT NULL)),
  CHECK ((state IN ('completed', 'canceled', 'expired', 'failed')) = (next_check_at IS NULL)),
  CHECK (state <> 'finalizing' OR ending IS NOT NULL)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX batch_idempotency ON batch (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX batch_list ON batch (tenant, created_at DESC, id DESC);
CREATE INDEX batch_clock ON batch (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE INDEX batch_open ON batch (pool_id) WHERE next_check_at IS NOT NULL;

CREATE TABLE batch_refusal (
  batch_id  text NOT NULL,
  line      int NOT NULL CHECK (line > 0),
  custom_id text,
  code      text NOT NULL,
  message   text NOT NULL,
  pointer   text,
  PRIMARY KEY (batch_id, line)
);

CREATE TABLE batch_tally (
  batch_id    text NOT NULL,
  state       text NOT NULL CHECK (state IN ('succeeded', 'failed', 'canceled', 'expired')),
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  items       int NOT NULL,
  run_s       float8 NOT NULL,
  gpu_seconds float8 NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX batch_tally_of ON batch_tally (batch_id);

ALTER TABLE request
  ADD COLUMN batch_id text,
  ADD COLUMN line int,
  ADD COLUMN custom_id text,
  ADD COLUMN replaced_by text,
  ADD CONSTRAINT request_item CHECK ((batch_id IS NULL) = (line IS NULL) AND (batch_id IS NULL) = (custom_id IS NULL)
    AND (batch_id IS NULL OR placement = 'batch'));
CREATE UNIQUE INDEX request_item_line ON request (batch_id, line) WHERE batch_id IS NOT NULL AND replaced_by IS NULL;
CREATE UNIQUE INDEX request_item_name ON request (batch_id, custom_id)
  WHERE batch_id IS NOT NULL AND replaced_by IS NULL;
CREATE INDEX request_item_due ON request (batch_id, due_at, line) WHERE batch_id IS NOT NULL AND state = 'queued';
CREATE INDEX request_item_leased ON request (batch_id) WHERE batch_id IS NOT NULL AND gang_id IS NOT NULL;
CREATE INDEX request_alone ON request (pool_id, due_at, id)
  WHERE batch_id IS NULL AND placement = 'batch' AND state = 'queued';

ALTER TABLE gang ADD COLUMN batch_id text, DROP CONSTRAINT gang_check1,
  ADD CONSTRAINT gang_for_one CHECK ((mode = 'batch') = (num_nonnulls(request_id, batch_id) = 1)
    AND num_nonnulls(request_id, batch_id) < 2);
CREATE INDEX gang_of_batch ON gang (batch_id) WHERE batch_id IS NOT NULL AND state <> 'gone';
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("""
DELETE FROM gang WHERE batch_id IS NOT NULL;
DROP INDEX gang_of_batch;
ALTER TABLE gang DROP CONSTRAINT gang_for_one, DROP COLUMN batch_id,
  ADD CONSTRAINT gang_check1 CHECK ((mode = 'batch') = (request_id IS NOT NULL));
DROP INDEX request_alone, request_item_leased, request_item_due, request_item_name, request_item_line;
ALTER TABLE request DROP CONSTRAINT request_item, DROP COLUMN replaced_by, DROP COLUMN custom_id, DROP COLUMN line,
  DROP COLUMN batch_id;
DROP TABLE batch_tally, batch_refusal, batch;
""")
