"""Requests that come together are accepted together: one statement for all that a free gang takes at once, one
transaction for all that must wait. Whoever comes alone goes the same way, alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import groupby

from sqlalchemy import TextClause
from sqlalchemy.exc import DBAPIError

from orchestrator.domain.ids import lease_token, new_id
from orchestrator.domain.placement import A_GANG_IS_IDLE, Mode, Placement, PoolLoad, needs_history, place
from orchestrator.errors import Conflict, MusterError
from orchestrator.store import journal, loads
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.orders import Accepted, NewRequest, Order, asked_of
from orchestrator.store.prepared import prepared
from orchestrator.store.requests import FOLD
from orchestrator.store.scheduling import CREDIT, FREE, FREE_IN_PART, VTIME, Lease

HISTORY_S = 2.0
"""How long medians of past runs and starts are good enough for a prediction."""
FULL_S = 0.02
"""How long a pool where one waits is taken to be like that: much shorter than any start, longer than a group."""


class Acceptor:
    """Accepts for one replica."""

    def __init__(self, database: Database, lease: timedelta) -> None:
        self._database = database
        self._lease = lease
        self._history: dict[str, tuple[float, PoolLoad]] = {}
        self._full_until: dict[str, float] = {}

    def accept(self, orders: Sequence[Order]) -> list[Accepted | Exception]:
        """One answer for each order, in their order: what becomes of one leaves the others alone."""
        first: dict[str, Order] = {}
        for order in orders:  # callers may choose IDs, and the same
            first.setdefault(order.new.id, order)
        done: dict[str, Accepted | Exception] = {}
        for pool, group in _by_pool([order for order in first.values() if self._may_take(order)]):
            done |= self._take(pool, group)
        if rest := [order for order in first.values() if order.new.id not in done]:
            done |= self._queue(rest)
        return [done[order.new.id] if order is first[order.new.id] else Accepted(row=None) for order in orders]

    def _may_take(self, order: Order) -> bool:
        """Not where somebody had to wait a moment ago: a gang that becomes free takes what waits by itself."""
        full = self._full_until.get(order.pool.id, 0.0) > time.monotonic()
        return order.new.mode is not Mode.BATCH and order.pool.max_gangs > 0 and not full

    def _take(self, pool: Record, orders: Sequence[Order]) -> dict[str, Accepted | Exception]:
        fresh = timedelta(seconds=self._lease.total_seconds() / 2)
        try:
            return dict(self._database.single(lambda tx: take(tx, pool, [order.new for order in orders], fresh)))
        except DBAPIError:  # another replica gave the gang away a moment ago, say
            return {}
        except MusterError as error:
            return {order.new.id: error for order in orders}

    def _queue(self, orders: Sequence[Order]) -> dict[str, Accepted | Exception]:
        def work(tx: Tx) -> dict[str, Accepted | Exception]:
            done: dict[str, Accepted | Exception] = {}
            for pool, group in _by_pool(orders):
                done |= self._queue_in(tx, pool, group)
            return done

        try:
            return self._database.transact(work)
        except MusterError as error:
            return {order.new.id: error for order in orders}
        except DBAPIError as error:
            if len(orders) == 1:
                return {orders[0].new.id: error}
        return {key: answer for order in orders for key, answer in self._queue([order]).items()}

    def _queue_in(self, tx: Tx, pool: Record, orders: Sequence[Order]) -> dict[str, Accepted | Exception]:
        load = self._load(tx, pool, orders)
        done: dict[str, Accepted | Exception] = {}
        placed: dict[str, tuple[NewRequest, PoolLoad]] = {}
        for order in orders:
            path = place(order.new.mode, load)
            if path is None:
                done[order.new.id] = no_warm_pool(pool)
                continue
            placed[order.new.id] = replace(order.new, placed=path), load
            if path.placement is Placement.WARM:
                load = replace(load, queued=load.queued + 1)
        rows = {row.id: row for row in record(tx, [new for new, _ in placed.values()])} if placed else {}
        for request_id, (_, before) in placed.items():
            done[request_id] = Accepted(row=rows.get(request_id), load=before)
        return done

    def _load(self, tx: Tx, pool: Record, orders: Sequence[Order]) -> PoolLoad:
        if all(order.new.mode is Mode.BATCH for order in orders):
            return PoolLoad(idle=0, busy=0, starting=0, queued=0, max_gangs=pool.max_gangs, run_s=None, cold_s=None)
        load = loads.pool_load(tx, pool, history=False)
        if not load.idle or load.queued:
            self._full_until[pool.id] = time.monotonic() + FULL_S
        if not needs_history(load):
            return load
        known = self._history.get(pool.id)
        if known is None or known[0] < time.monotonic():
            known = (time.monotonic() + HISTORY_S, loads.with_history(tx, pool, load))
            self._history[pool.id] = known
        return replace(load, run_s=known[1].run_s, cold_s=known[1].cold_s)


def _by_pool(orders: Sequence[Order]) -> list[tuple[Record, list[Order]]]:
    """In the order of pool IDs, so that two groups never wait for each other in a circle."""
    grouped = groupby(sorted(orders, key=lambda order: str(order.pool.id)), key=lambda order: str(order.pool.id))
    groups = [list(group) for _, group in grouped]
    return [(group[0].pool, group) for group in groups]


def no_warm_pool(pool: Record) -> Conflict:
    return Conflict(
        f"template {pool.template!r} keeps no warm gangs (pool max is 0): use mode auto or batch", code="no_warm_pool"
    )


# -------------------------------------------------------------------------------------------------------- statements

_ASKED = """asked AS MATERIALIZED (
  SELECT * FROM json_to_recordset(CAST(:asked AS json)) AS a (number int, id text, tenant text, template text,
    template_version int, pool_id text, mode text, placement text, placement_reason text, priority int, input jsonb,
    labels jsonb, timeout_s float8, start_within_s float8, max_attempts int, max_crashes int, idempotency_key text,
    body_digest text, retry_of text, output_ttl_s float8, files jsonb, attempt text, token text,
    traceparent text, tracestate text)
)"""


def _inserting(source: str, version: str, state: str, attempts: str, gang: str, assigned_at: str, check_s: str) -> str:
    """The CTEs that accept the rows of `source` (`asked a`, joined or not) as rows `new` in this state.

    All arguments are SQL. The first event says what `record` makes, whatever comes after it in the same statement; and
    when, for Postgres runs the parts of a statement in an order of its own.
    """
    return f"""new AS (
  INSERT INTO request (id, tenant, template, template_version, pool_id, mode, placement, placement_reason, priority,
                       created_at, run_at, due_at, state, attempts, gang_id, assigned_at, version, max_attempts,
                       max_crashes, idempotency_key, body_digest, retry_of, output_ttl_s, timeout_s, start_by,
                       next_check_at)
  SELECT a.id, a.tenant, a.template, a.template_version, a.pool_id, a.mode, a.placement, a.placement_reason,
         a.priority, clock_timestamp(), clock_timestamp(), clock_timestamp() - a.priority * interval '1 minute',
         {state}, {attempts}, {gang}, {assigned_at}, {version}, a.max_attempts, a.max_crashes, a.idempotency_key,
         decode(a.body_digest, 'hex'), a.retry_of, a.output_ttl_s, a.timeout_s,
         clock_timestamp() + a.start_within_s * interval '1 second',
         clock_timestamp() + ({check_s}) * interval '1 second'
  FROM {source}
  ON CONFLICT DO NOTHING
  RETURNING *
), body AS (
  INSERT INTO payload (request_id, input, labels, files, traceparent, tracestate)
  SELECT n.id, a.input, a.labels, a.files, a.traceparent, a.tracestate FROM new n JOIN asked a USING (id)
), labeled AS (
  INSERT INTO request_label (tenant, key, value, created_at, request_id)
  SELECT n.tenant, l.key, l.value, n.created_at, n.id
  FROM new n JOIN asked a USING (id) CROSS JOIN LATERAL jsonb_each_text(a.labels) l
), logged AS (
  INSERT INTO event (subject, seq, at, move, data)
  SELECT id, 1, created_at, 'record', jsonb_build_object('state', 'queued', 'reason_code', NULL, 'reason', NULL,
         'gang', NULL, 'attempts', 0, 'crashes', 0, 'placement', placement, 'why', placement_reason) FROM new
)"""


_YOUNG = """n.*, a.input, a.labels, NULL AS phase, NULL AS current, NULL AS total, NULL AS progress_at, 0 AS beats,
       NULL AS running_s, NULL AS value, NULL AS error, NULL AS metrics, NULL AS run_s, NULL AS gpu_seconds,
       CAST('[]' AS json) AS outputs"""
"""Of a request `n` that was just accepted: what `requests.get` would say, in the same words."""

_RECORD = prepared(f"""
WITH {_ASKED}, {_inserting("asked a", "1", "'queued'", "0", "NULL", "NULL", "least(60, a.start_within_s)")}
SELECT {_YOUNG}, NULL AS last_gang, NULL AS slot, NULL AS world, NULL AS granted_at, NULL AS first_ready_at,
       NULL AS launched_at
FROM new n JOIN asked a USING (id)
""")

_ALONE = "SELECT *, 0 AS slot, row_number() OVER () AS number FROM free"
_IN_PARTS = """SELECT f.*, s.slot, row_number() OVER () AS number FROM free f
  CROSS JOIN LATERAL generate_series(0, f.replicas - 1) s (slot)
  WHERE NOT EXISTS (SELECT FROM attempt a WHERE a.gang_id = f.id AND a.slot = s.slot AND a.ended_at IS NULL)"""


def _taking(free: str, slots: str) -> TextClause:
    """`free`: which gangs `g` are; `slots`: the rows of `free`, one for each request that such a gang can take."""
    return prepared(f"""
WITH {_ASKED}, locked AS MATERIALIZED (
  SELECT p.id FROM pool p WHERE p.id = :p
    AND NOT EXISTS (SELECT FROM request r WHERE r.pool_id = :p AND r.placement = 'warm' AND r.state = 'queued')
  FOR UPDATE OF p SKIP LOCKED
), free AS MATERIALIZED (
  SELECT g.id, g.incarnation, g.replicas, g.world / g.replicas AS world, g.first_ready_at,
         g.launched_at
  FROM locked l JOIN gang g ON g.pool_id = l.id
  JOIN gang_beat b ON b.gang_id = g.id AND b.incarnation = g.incarnation
  WHERE {free} ORDER BY g.id LIMIT :n FOR SHARE OF g SKIP LOCKED
), slot AS MATERIALIZED ({slots}
), {
        _inserting(
            "asked a JOIN slot s USING (number)",
            "2",
            "'assigned'",
            "1",
            "s.id",
            "clock_timestamp()",
            "a.timeout_s + 31",
        )
    }
, granted AS (
  INSERT INTO attempt (id, request_id, number, gang_id, incarnation, slot, token)
  SELECT a.attempt, n.id, n.attempts, n.gang_id, s.incarnation, s.slot, a.token
  FROM new n JOIN asked a USING (id) JOIN slot s USING (number)
  RETURNING request_id, granted_at
), assigned AS (
  INSERT INTO event (subject, seq, at, move, data)
  SELECT id, n.version, n.assigned_at, 'assign', {FOLD} || jsonb_build_object('attempt', a.attempt)
  FROM new n JOIN asked a USING (id)
), charged AS (
  INSERT INTO tenant_share (pool_id, tenant, vtime)
  SELECT :p, n.tenant, {VTIME} + count(*) / t.weight
  FROM new n JOIN tenant t ON t.id = n.tenant LEFT JOIN tenant_share s ON s.pool_id = :p AND s.tenant = n.tenant
  GROUP BY n.tenant, t.weight, s.vtime
  ON CONFLICT (pool_id, tenant) DO UPDATE SET vtime = greatest(tenant_share.vtime, excluded.vtime)
)
SELECT {_YOUNG}, n.gang_id AS last_gang, s.slot, s.world, d.granted_at, s.first_ready_at, s.launched_at,
       s.incarnation, a.attempt, a.token
FROM new n JOIN asked a USING (id) JOIN slot s USING (number) JOIN granted d ON d.request_id = n.id
""")


_TAKE = _taking(FREE, _ALONE)
_TAKE_PARTS = _taking(FREE_IN_PART, _IN_PARTS)
"""Where gangs have several replicas."""


def record(tx: Tx, new: Sequence[NewRequest]) -> Sequence[Record]:
    """Accept the requests; returns those whose key and ID were free: see claims.py for the others."""
    rows = tx.execute(_RECORD, {"asked": json.dumps(asked_of(new))}).all()
    for row in rows:
        journal.request(tx, "record", row)
    return rows


def queue(tx: Tx, order: Order) -> Record:
    """Accept one request in the caller's transaction; it waits, however idle its pool is. Raises Conflict."""
    load = loads.pool_load(tx, order.pool, history=False)
    if needs_history(load):
        load = loads.with_history(tx, order.pool, load)
    path = place(order.new.mode, load)
    if path is None:
        raise no_warm_pool(order.pool)
    (row,) = record(tx, [replace(order.new, placed=path)])
    return row


def take(tx: Tx, pool: Record, new: Sequence[NewRequest], fresh: timedelta) -> dict[str, Accepted]:
    """Accept and assign, two moves in one statement, as many of the pool's requests as it has free gangs.

    Only if nobody waits in the pool and nobody else holds its row. `fresh`: how long ago a gang may have been seen.
    Returns what was taken, by request ID. Raises IntegrityError when another replica gave a gang away meanwhile.
    """
    placed = [replace(each, placed=place(each.mode, A_GANG_IS_IDLE)) for each in new]
    leased = [{**each, "attempt": new_id("att"), "token": lease_token()} for each in asked_of(placed)]
    values = {
        "asked": json.dumps(leased),
        "p": pool.id,
        "n": len(new),
        "credit": CREDIT,
        "fresh": fresh.total_seconds(),
    }
    asked = {each.id: each for each in new}
    statement = _TAKE if loads.replicas_of(pool) == 1 else _TAKE_PARTS
    rows = tx.execute(statement, values).all()
    for row in rows:
        journal.request(tx, "record", row, state="queued", gang=None)
        journal.request(
            tx, "assign", row, attempt=row.attempt, incarnation=row.incarnation, seconds=journal.queued(row)
        )
    return {row.id: Accepted(row=row, lease=_lease(row, pool, asked[row.id])) for row in rows}


def _lease(row: Record, pool: Record, new: NewRequest) -> Lease:
    return Lease(
        gang=row.gang_id,
        incarnation=row.incarnation,
        slot=row.slot,
        attempt=row.attempt,
        request=row.id,
        number=1,
        token=row.token,
        tenant=row.tenant,
        input=new.input,
        files=new.files,
        timeout_s=row.timeout_s,
        pool_id=pool.id,
        spec=pool.spec,
        traceparent=new.traceparent,
        tracestate=new.tracestate,
    )
