"""How fast a scheduler tick assigns: the store alone, no HTTP. Part of `benchmarks.throughput`."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import yaml
from sqlalchemy import text

from benchmarks.crowd import pretend
from benchmarks.stand import ROOT
from orchestrator.domain.template import Template
from orchestrator.store import scheduling, schema, templates
from orchestrator.store.database import Database, Tx

TENANTS = 10
LEASE = timedelta(hours=1)
NAME = "ticks"

_TENANTS = text("INSERT INTO tenant (id) SELECT 'tenant-' || n FROM generate_series(1, :n) n")
_BACKLOG = text("""
WITH new AS (
  INSERT INTO request (id, tenant, template, template_version, pool_id, mode, placement, placement_reason, due_at,
                       state, max_attempts, max_crashes, body_digest, timeout_s, next_check_at)
  SELECT 'req_' || lpad(n::text, 26, '0'), 'tenant-' || 1 + n % :tenants, 'ticks', 1, :pool, 'warm', 'warm',
         'asked for', clock_timestamp() - :count * interval '1 ms' + n * interval '1 ms', 'queued', 5, 3, '', 3600,
         clock_timestamp() + interval '1 hour'
  FROM generate_series(1, :count) n RETURNING id
) INSERT INTO payload (request_id, input) SELECT id, '{}' FROM new
""")
_END = (
    "UPDATE attempt SET ended_at = clock_timestamp(), outcome = 'succeeded' WHERE ended_at IS NULL",
    "UPDATE request SET state = 'succeeded', gang_id = NULL, finished_at = clock_timestamp(), next_check_at = NULL"
    " WHERE state = 'assigned'",
)


def measure(url: str, *, gangs: int, backlog: int, ticks: int) -> list[tuple[int, float]]:
    """For each tick how many leases it granted and the seconds of its transaction, commit included."""
    database = Database(url, connections=2)
    try:
        schema.migrate(database)
        pool_id = _fill(database, gangs, backlog)
        return [_tick(database, pool_id, gangs) for _ in range(ticks)]
    finally:
        database.close()


def _fill(database: Database, gangs: int, backlog: int) -> str:
    spec = yaml.safe_load(Path(ROOT / "job_templates" / "echo.yaml").read_text())
    template = Template.model_validate({**spec, "name": NAME, "pool": {"min": 0, "max": gangs}})

    def work(tx: Tx) -> str:
        pool_id: str = templates.apply(tx, "default", template).id
        tx.execute(text("SET LOCAL statement_timeout = '120s'"))
        tx.execute(_TENANTS, {"n": TENANTS})
        tx.execute(_BACKLOG, {"pool": pool_id, "count": backlog, "tenants": TENANTS})
        tx.execute(text("ANALYZE"))
        return pool_id

    pool_id = database.transact(work)
    pretend(database, NAME, gangs)
    return pool_id


def _tick(database: Database, pool_id: str, most: int) -> tuple[int, float]:
    begun = time.perf_counter()
    tick = database.transact(lambda tx: scheduling.assign_pool(tx, pool_id, LEASE, most=most))
    seconds = time.perf_counter() - begun
    for statement in _END:
        database.transact(lambda tx, s=statement: tx.execute(text(s)))  # type: ignore[misc]
    return len(tick.gangs), seconds
