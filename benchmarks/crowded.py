"""An installation in use for long: requests that ended, wait and run, gangs that work, a batch, a schedule; as rows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from benchmarks import crowd
from benchmarks.stand import Stand
from orchestrator.client import Client
from orchestrator.store.database import Tx

_CHUNK = 5_000
"""Rows of one statement, which has its bound of time."""

_ENDED = text("""
WITH made AS (
  SELECT 'req_' || lpad(lower(to_hex(n)), 26, '0') AS id, n, p.id AS pool_id, p.template, p.version,
         clock_timestamp() - n * interval '20 s' AS at,
         (ARRAY['succeeded', 'succeeded', 'succeeded', 'succeeded', 'failed', 'canceled'])[1 + n % 6] AS state
  FROM generate_series(:first, :last) n
  JOIN (SELECT *, row_number() OVER (ORDER BY template) - 1 AS k FROM pool WHERE current) p ON p.k = n % :pools
), new AS (
  INSERT INTO request (id, tenant, template, template_version, pool_id, mode, placement, placement_reason, due_at,
                       state, reason_code, reason, attempts, max_attempts, max_crashes, body_digest, timeout_s,
                       created_at, assigned_at, started_at, finished_at, version)
  SELECT id, 'default', template, version, pool_id, 'auto', 'warm', 'a gang is idle', at, state,
         CASE state WHEN 'failed' THEN 'handler_error' WHEN 'canceled' THEN 'canceled' END,
         CASE state WHEN 'failed' THEN 'ValueError: out of range' WHEN 'canceled' THEN 'asked for' END,
         1, 5, 3, '', 3600, at, at + interval '1 s', at + interval '2 s', at + interval '9 s', 4
  FROM made RETURNING id, tenant, created_at, state, pool_id
), payloads AS (
  INSERT INTO payload (request_id, input, labels)
  SELECT id, '{"text": "a fox in the snow", "steps": 8}', '{"team": "red"}' FROM new
), labels AS (
  INSERT INTO request_label (tenant, key, value, created_at, request_id)
  SELECT tenant, 'team', 'red', created_at, id FROM new
), events AS (
  INSERT INTO event (subject, seq, at, move, data)
  SELECT id, s.seq, created_at + s.seq * interval '1 s', s.move, jsonb_build_object('state', s.state)
  FROM new, (VALUES (1, 'record', 'queued'), (2, 'assign', 'assigned'), (3, 'start', 'running'),
                    (4, 'succeed', 'succeeded')) s (seq, move, state)
), attempts AS (
  INSERT INTO attempt (id, request_id, number, gang_id, incarnation, token, granted_at, started_at, ended_at, outcome,
                       reason_code, reason, rank, node, run_s)
  SELECT 'att_' || substr(id, 5), id, 1, 'gng_' || lpad('1', 26, '0'), 1, '', created_at + interval '1 s',
         created_at + interval '2 s', created_at + interval '9 s', state,
         CASE state WHEN 'failed' THEN 'handler_error' END, CASE state WHEN 'failed' THEN 'ValueError' END, 1,
         'node-0', 7
  FROM new
), results AS (
  INSERT INTO result (request_id, attempt_id, outcome, value, digest)
  SELECT id, 'att_' || substr(id, 5), state, '{"text": "x"}', '' FROM new
)
INSERT INTO usage (request_id, tenant, pool_id, attempts, ranks, run_s, gpu_seconds, created_at)
SELECT id, tenant, pool_id, 1, 4, 7, 28, created_at + interval '9 s' FROM new
""")
_QUEUED = text("""
WITH new AS (
  INSERT INTO request (id, tenant, template, template_version, pool_id, mode, placement, placement_reason, due_at,
                       state, max_attempts, max_crashes, body_digest, timeout_s, next_check_at)
  SELECT 'req_q' || lpad(lower(to_hex(n)), 25, '0'), 'default', p.template, p.version, p.id, 'warm', 'warm',
         'asked for', clock_timestamp() - n * interval '1 s', 'queued', 5, 3, '', 3600,
         clock_timestamp() + interval '1 hour'
  FROM generate_series(1, :count) n
  JOIN (SELECT *, row_number() OVER (ORDER BY template) - 1 AS k FROM pool WHERE current) p ON p.k = n % :pools
  RETURNING id
), payloads AS (INSERT INTO payload (request_id, input) SELECT id, '{"text": "later"}' FROM new)
INSERT INTO event (subject, seq, move, data) SELECT id, 1, 'record', '{"state": "queued"}' FROM new
""")
_RUNNING = text("""
WITH made AS (
  SELECT 'req_r' || substr(g.id, 6) AS id, g.id AS gang_id, g.pool_id, g.template, g.version_of,
         clock_timestamp() - interval '30 s' AS at
  FROM gang g WHERE g.state = 'ready' AND g.template LIKE 'crowded-%'
), new AS (
  INSERT INTO request (id, tenant, template, template_version, pool_id, mode, placement, placement_reason, due_at,
                       state, attempts, max_attempts, max_crashes, gang_id, body_digest, timeout_s, created_at,
                       assigned_at, started_at, next_check_at, version)
  SELECT id, 'default', template, version_of, pool_id, 'warm', 'warm', 'a gang is idle', at, 'running', 1, 5, 3,
         gang_id, '', 3600, at, at, at + interval '1 s', clock_timestamp() + interval '1 hour', 3
  FROM made RETURNING id, gang_id, created_at
), payloads AS (INSERT INTO payload (request_id, input) SELECT id, '{"text": "now"}' FROM new
), events AS (
  INSERT INTO event (subject, seq, at, move, data)
  SELECT id, s.seq, created_at + s.seq * interval '1 s', s.move, jsonb_build_object('state', s.state)
  FROM new, (VALUES (1, 'record', 'queued'), (2, 'assign', 'assigned'), (3, 'start', 'running')) s (seq, move, state)
), attempts AS (
  INSERT INTO attempt (id, request_id, number, gang_id, incarnation, token, granted_at, started_at)
  SELECT 'att_' || substr(id, 5), id, 1, gang_id, 1, '', created_at, created_at + interval '1 s' FROM new
), ranks AS (
  INSERT INTO log_chunk (gang_id, incarnation, rank, seq, request_id, at, body)
  SELECT gang_id, 1, r, s, id, created_at + s * interval '1 s', E'step of a rank that says something\\n'
  FROM new, generate_series(0, 3) r, generate_series(1, 20) s
)
INSERT INTO progress (request_id, attempt_id, phase, current, total)
SELECT id, 'att_' || substr(id, 5), 'sample', 12, 50 FROM new
""")


@dataclass(frozen=True, kw_only=True)
class Used:
    """IDs to look at."""

    succeeded: str
    failed: str
    queued: str
    running: str
    gang: str
    batch: str
    schedule: str
    template: str


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many rows of each kind; gangs are spread over the pools, and all of them are busy."""

    ended: int
    queued: int
    gangs: int
    pools: int
    items: int
    """Of the one batch."""


def fill(stand: Stand, size: Size) -> Used:
    """Make it so."""
    names = [f"crowded-{n}" for n in range(size.pools)]
    for name in names:
        stand.apply(name, like="echo", ranks_per_node=4, pool=crowd.policy(size.gangs // size.pools))
    pretenders = [one for name in names for one in crowd.pretend(stand.database, name, size.gangs // size.pools)]
    for first in range(1, size.ended + 1, _CHUNK):
        _end(stand, first, min(size.ended, first + _CHUNK - 1), size.pools)
    stand.database.transact(lambda tx: _open(tx, size))
    with Client(stand.url, stand.token) as client:
        batch = _batch(client, names[0], size.items)
        schedule = client.schedules.create("nightly", "0 2 * * *", {"request": {"template": names[0]}}).id
    return Used(
        succeeded=_request(stand, "succeeded"),
        failed=_request(stand, "failed"),
        queued=_request(stand, "queued"),
        running=_request(stand, "running"),
        gang=pretenders[0].id,
        batch=batch,
        schedule=schedule,
        template=names[0],
    )


def _batch(client: Client, template: str, count: int) -> str:
    """One that is held, or it would start gangs of its own."""
    items = ({"custom_id": f"i{n}", "input": {"text": "x"}} for n in range(count))
    batch = client.batches.submit(template, items).id
    client.batches.pause(batch)
    return batch


def _end(stand: Stand, first: int, last: int, pools: int) -> None:
    stand.database.transact(lambda tx: tx.execute(_ENDED, {"first": first, "last": last, "pools": pools}))


def _open(tx: Tx, size: Size) -> None:
    tx.execute(_QUEUED, {"count": size.queued, "pools": size.pools})
    tx.execute(_RUNNING)


def _request(stand: Stand, state: str) -> str:
    query = text("SELECT id FROM request WHERE state = :s AND batch_id IS NULL ORDER BY created_at DESC LIMIT 1")
    return str(stand.database.transact(lambda tx: tx.execute(query, {"s": state}).scalar_one()))
