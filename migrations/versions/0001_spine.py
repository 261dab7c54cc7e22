"""The spine: requests, attempts, gangs, pools, templates, tokens, events, logs.

Written as SQL because storage parameters, partial indexes and check constraints are the design here.
Heartbeats and progress live in narrow tables without an index on what changes, so that their updates stay HOT.
No foreign key from hot rows to gang or pool: KEY SHARE locks would serialise assignments.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE tenant (
  id         text PRIMARY KEY,
  weight     real NOT NULL DEFAULT 1 CHECK (weight > 0),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO tenant (id) VALUES ('default');

CREATE TABLE token (
  id         text PRIMARY KEY,
  tenant     text NOT NULL REFERENCES tenant,
  name       text NOT NULL,
  scopes     text[] NOT NULL,
  hash       bytea NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz,
  revoked_at timestamptz
);

CREATE TABLE template (
  tenant     text NOT NULL REFERENCES tenant,
  name       text NOT NULL,
  version    int NOT NULL CHECK (version > 0),
  digest     bytea NOT NULL,
  spec       jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  deleted_at timestamptz,
  PRIMARY KEY (tenant, name, version)
);

CREATE TABLE pool (
  id             text PRIMARY KEY,
  tenant         text NOT NULL,
  template       text NOT NULL,
  version        int NOT NULL,
  spec           jsonb NOT NULL,
  current        boolean NOT NULL DEFAULT true,
  min_gangs      int NOT NULL CHECK (min_gangs >= 0),
  max_gangs      int NOT NULL CHECK (max_gangs >= min_gangs),
  idle_timeout_s float8 NOT NULL CHECK (idle_timeout_s > 0),
  failed_starts  int NOT NULL DEFAULT 0,
  held_until     timestamptz,
  held_reason    text,
  created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (tenant, template, version)
);
CREATE UNIQUE INDEX pool_current ON pool (tenant, template) WHERE current;

CREATE TABLE tenant_share (
  pool_id text NOT NULL,
  tenant  text NOT NULL,
  vtime   float8 NOT NULL DEFAULT 0,
  PRIMARY KEY (pool_id, tenant)
) WITH (fillfactor = 50);

CREATE TABLE gang (
  id             text PRIMARY KEY,
  name           text NOT NULL UNIQUE,
  tenant         text NOT NULL,
  pool_id        text NOT NULL,
  template       text NOT NULL,
  version_of     int NOT NULL,
  mode           text NOT NULL CHECK (mode IN ('serve', 'batch')),
  request_id     text,
  backend        text NOT NULL,
  state          text NOT NULL CHECK (state IN ('planned', 'launching', 'loading', 'ready', 'draining', 'gone')),
  reason_code    text,
  reason         text,
  world          int NOT NULL CHECK (world > 0),
  nodes          int NOT NULL CHECK (nodes > 0),
  incarnation    int NOT NULL DEFAULT 0,
  nonce          text,
  session_hash   bytea,
  token_hashes   bytea[] NOT NULL DEFAULT '{}',
  present        boolean NOT NULL DEFAULT false,
  launches       int NOT NULL DEFAULT 0,
  breaks         int NOT NULL DEFAULT 0,
  phases         jsonb NOT NULL DEFAULT '{}',
  planned_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  launched_at    timestamptz,
  hello_at       timestamptz,
  ready_at       timestamptz,
  first_ready_at timestamptz,
  gone_at        timestamptz,
  next_check_at  timestamptz,
  version        int NOT NULL DEFAULT 1,
  CHECK ((state = 'gone') = (gone_at IS NOT NULL)),
  CHECK ((mode = 'batch') = (request_id IS NOT NULL)),
  CHECK (state = 'gone' OR next_check_at IS NOT NULL)
) WITH (fillfactor = 80);
CREATE INDEX gang_live ON gang (pool_id) WHERE state <> 'gone';
CREATE INDEX gang_leftover ON gang (id) WHERE state = 'gone' AND present;
CREATE INDEX gang_history ON gang (pool_id, planned_at DESC);
CREATE UNIQUE INDEX gang_for_request ON gang (request_id) WHERE request_id IS NOT NULL AND state <> 'gone';

CREATE TABLE gang_rank (
  gang_id     text NOT NULL,
  incarnation int NOT NULL,
  rank        int NOT NULL CHECK (rank >= 0),
  node        text NOT NULL,
  pid         int,
  local_rank  int,
  device      text,
  hello_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  ready_at    timestamptz,
  PRIMARY KEY (gang_id, incarnation, rank)
);

CREATE TABLE gang_beat (
  gang_id     text PRIMARY KEY,
  incarnation int NOT NULL,
  seen_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  ranks       jsonb NOT NULL DEFAULT '[]'
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE TABLE request (
  id               text PRIMARY KEY,
  tenant           text NOT NULL,
  template         text NOT NULL,
  template_version int NOT NULL,
  pool_id          text NOT NULL,
  mode             text NOT NULL CHECK (mode IN ('auto', 'warm', 'batch')),
  placement        text NOT NULL CHECK (placement IN ('warm', 'batch')),
  placement_reason text NOT NULL,
  priority         smallint NOT NULL DEFAULT 0,
  due_at           timestamptz NOT NULL,
  state            text NOT NULL CHECK (state IN
    ('queued', 'assigned', 'running', 'canceling', 'succeeded', 'failed', 'canceled', 'expired')),
  reason_code      text,
  reason           text,
  attempts         int NOT NULL DEFAULT 0,
  max_attempts     int NOT NULL CHECK (max_attempts > 0),
  crashes          int NOT NULL DEFAULT 0,
  max_crashes      int NOT NULL CHECK (max_crashes > 0),
  gang_id          text,
  idempotency_key  text,
  body_digest      bytea NOT NULL,
  retry_of         text,
  timeout_s        float8 NOT NULL CHECK (timeout_s > 0),
  start_by         timestamptz,
  run_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
  created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  assigned_at      timestamptz,
  started_at       timestamptz,
  finished_at      timestamptz,
  next_check_at    timestamptz,
  version          int NOT NULL DEFAULT 1,
  CHECK (attempts <= max_attempts),
  CHECK ((state IN ('assigned', 'running', 'canceling')) = (gang_id IS NOT NULL)),
  CHECK ((state IN ('succeeded', 'failed', 'canceled', 'expired')) = (finished_at IS NOT NULL)),
  CHECK ((state IN ('succeeded', 'failed', 'canceled', 'expired')) = (next_check_at IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX request_queue ON request (pool_id, placement, tenant, due_at, id) WHERE state = 'queued';
CREATE INDEX request_clock ON request (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE UNIQUE INDEX request_idempotency ON request (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX request_list ON request (tenant, created_at DESC, id DESC);

CREATE TABLE payload (
  request_id text PRIMARY KEY,
  input      jsonb NOT NULL,
  labels     jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE attempt (
  id          text PRIMARY KEY,
  request_id  text NOT NULL,
  number      int NOT NULL CHECK (number > 0),
  gang_id     text NOT NULL,
  incarnation int NOT NULL,
  slot        smallint NOT NULL DEFAULT 0,
  token       text NOT NULL,
  granted_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  started_at  timestamptz,
  ended_at    timestamptz,
  outcome     text CHECK (outcome IN ('succeeded', 'failed', 'canceled', 'lost')),
  reason_code text,
  reason      text,
  rank        int,
  node        text,
  run_s       float8,
  UNIQUE (request_id, number),
  CHECK ((ended_at IS NULL) = (outcome IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX attempt_one_live ON attempt (request_id) WHERE ended_at IS NULL;
CREATE INDEX attempt_of_gang ON attempt (gang_id, granted_at DESC);
CREATE UNIQUE INDEX attempt_one_slot ON attempt (gang_id, slot) WHERE ended_at IS NULL;

CREATE TABLE progress (
  request_id text PRIMARY KEY,
  attempt_id text NOT NULL,
  phase      text,
  current    float8,
  total      float8,
  beats      int NOT NULL DEFAULT 1,
  moved_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE TABLE result (
  request_id text PRIMARY KEY,
  attempt_id text,
  outcome    text NOT NULL,
  value      jsonb,
  error      jsonb,
  metrics    jsonb NOT NULL DEFAULT '{}',
  digest     bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE output (
  request_id text NOT NULL,
  name       text NOT NULL,
  media_type text NOT NULL,
  bytes      bigint NOT NULL CHECK (bytes > 0),
  sha256     text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
  uri        text NOT NULL,
  PRIMARY KEY (request_id, name)
);

CREATE TABLE usage (
  request_id  text PRIMARY KEY,
  tenant      text NOT NULL,
  pool_id     text NOT NULL,
  attempts    int NOT NULL,
  ranks       int NOT NULL,
  run_s       float8 NOT NULL,
  gpu_seconds float8 NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX usage_recent ON usage (pool_id, created_at DESC);

CREATE TABLE event (
  subject text NOT NULL,
  seq     int NOT NULL CHECK (seq > 0),
  at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  move    text NOT NULL,
  data    jsonb NOT NULL,
  PRIMARY KEY (subject, seq)
);

CREATE TABLE rank_error (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  gang_id     text NOT NULL,
  incarnation int NOT NULL,
  attempt_id  text,
  rank        int NOT NULL,
  node        text NOT NULL,
  phase       text,
  step        int,
  type        text NOT NULL,
  message     text NOT NULL,
  traceback   text,
  at          timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX rank_error_attempt ON rank_error (attempt_id, id);
CREATE INDEX rank_error_gang ON rank_error (gang_id, incarnation, id);

CREATE TABLE log_chunk (
  gang_id     text NOT NULL,
  incarnation int NOT NULL,
  rank        int NOT NULL,
  seq         int NOT NULL,
  request_id  text,
  at          timestamptz NOT NULL,
  body        text NOT NULL,
  PRIMARY KEY (gang_id, incarnation, rank, seq)
);
CREATE INDEX log_chunk_request ON log_chunk (request_id, at, rank, seq) WHERE request_id IS NOT NULL;
"""

GUARDS = """
CREATE FUNCTION forbid_leaving_terminal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'request % is % and final', OLD.id, OLD.state USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER request_final BEFORE UPDATE OF state ON request FOR EACH ROW
  WHEN (OLD.finished_at IS NOT NULL AND NEW.state IS DISTINCT FROM OLD.state)
  EXECUTE FUNCTION forbid_leaving_terminal();
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(GUARDS)


def downgrade() -> None:
    op.execute(
        "DROP TABLE log_chunk, rank_error, event, usage, output, result, progress, attempt, payload, request,"
        " gang_beat, gang_rank, gang, tenant_share, pool, template, token, tenant;"
        " DROP FUNCTION forbid_leaving_terminal"
    )
