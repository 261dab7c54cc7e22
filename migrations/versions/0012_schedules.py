"""Schedules: what they say, version by version, and what became of each tick."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE schedule (
  id            text PRIMARY KEY,
  tenant        text NOT NULL,
  name          text NOT NULL,
  version       int NOT NULL DEFAULT 1,
  paused_at     timestamptz,
  ended_at      timestamptz,
  minted_until  timestamptz NOT NULL,
  pruned_before timestamptz,
  next_check_at timestamptz,
  created_at    timestamptz NOT NULL,
  updated_at    timestamptz NOT NULL,
  CHECK ((ended_at IS NULL) = (next_check_at IS NOT NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX schedule_name ON schedule (tenant, name);
CREATE INDEX schedule_clock ON schedule (next_check_at) WHERE next_check_at IS NOT NULL;

CREATE TABLE schedule_version (
  schedule_id text NOT NULL,
  version     int NOT NULL CHECK (version > 0),
  policy      jsonb NOT NULL,
  runs        jsonb NOT NULL,
  since       timestamptz NOT NULL,
  PRIMARY KEY (schedule_id, version)
);

CREATE TABLE schedule_fire (
  schedule_id text NOT NULL,
  tick        timestamptz NOT NULL,
  version     int NOT NULL,
  triggered   boolean NOT NULL DEFAULT false,
  due_at      timestamptz NOT NULL,
  state       text NOT NULL CHECK (state IN ('waiting', 'ran', 'skipped')),
  reason_code text,
  reason      text,
  request_id  text,
  batch_id    text,
  over        boolean NOT NULL DEFAULT false,
  queued_at   timestamptz,
  decided_at  timestamptz,
  PRIMARY KEY (schedule_id, tick),
  CHECK ((state = 'ran') = (num_nonnulls(request_id, batch_id) = 1)),
  CHECK ((state = 'skipped') = (reason_code IS NOT NULL)),
  CHECK ((state = 'waiting') = (decided_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX schedule_fire_waiting ON schedule_fire (schedule_id, due_at) WHERE state = 'waiting';
CREATE INDEX schedule_fire_open ON schedule_fire (schedule_id) WHERE state = 'ran' AND NOT over;
CREATE UNIQUE INDEX schedule_fire_request ON schedule_fire (request_id) WHERE request_id IS NOT NULL;
CREATE UNIQUE INDEX schedule_fire_batch ON schedule_fire (batch_id) WHERE batch_id IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("DROP TABLE schedule_fire, schedule_version, schedule")
