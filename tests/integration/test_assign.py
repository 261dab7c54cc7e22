"""The scheduler's transaction: exact under stale statistics and under rivals, fair, and by its index."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import builders as make
import pytest
from builders import LEASE
from races import together
from sqlalchemy import text

from orchestrator.domain.placement import Placed, Placement
from orchestrator.domain.states import Reason
from orchestrator.store import gangs, planning, requests, scheduling
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.scheduling import Tick

MANY_QUEUED = """
WITH made AS (
  INSERT INTO request (id, tenant, template, template_version, pool_id, mode, placement, placement_reason, due_at,
                       state, max_attempts, max_crashes, body_digest, timeout_s, next_check_at)
  SELECT 'req_' || lpad(n::text, 26, '0'), 'default', 'many', 1, :pool, 'auto', 'warm', 'many',
         clock_timestamp() - n * interval '1 millisecond', 'queued', 5, 3, '', 60, clock_timestamp()
  FROM generate_series(1, :n) n RETURNING *)
, bodies AS (INSERT INTO payload (request_id, input) SELECT id, '{}' FROM made)
INSERT INTO event (subject, seq, move, data) SELECT id, 1, 'record', jsonb_build_object('state', state,
  'reason_code', NULL, 'reason', NULL, 'gang', NULL, 'attempts', 0, 'crashes', 0) FROM made
"""


def many_queued(tx: Tx, pool: Record, number: int) -> None:
    tx.execute(text(MANY_QUEUED), {"pool": pool.id, "n": number})


def live(tx: Tx) -> int:
    return make.count(tx, "SELECT count(*) FROM attempt WHERE ended_at IS NULL")


def succeeded(tx: Tx) -> int:
    return make.count(tx, "SELECT count(*) FROM request WHERE state = 'succeeded'")


def tick(database: Database, pool: Record) -> Tick:
    return database.transact(lambda tx: scheduling.assign_pool(tx, pool.id, LEASE))


def test_what_is_due_first_is_assigned_first_to_every_free_gang(tx: Tx) -> None:
    pool = make.pool(tx)
    late, early, urgent = (make.queued(tx, pool, priority=p) for p in (0, 5, 10))
    free = [make.ready(tx, pool), make.ready(tx, pool)]
    assert set(make.assign(tx, pool)) == {gang.id for gang in free}
    states = {r: make.request_row(tx, r).state for r in (late, early, urgent)}
    assert states == {late: "queued", early: "assigned", urgent: "assigned"}


@pytest.mark.parametrize("slots", [1, 10])
def test_no_more_than_the_free_slots_are_assigned_with_stale_statistics(database: Database, slots: int) -> None:
    """Analysed while empty, a planner may run a LIMIT in a sub-select again for every row."""

    def fill(tx: Tx) -> Record:
        tx.execute(text("ANALYZE"))
        pool = make.pool(tx)
        for _ in range(slots):
            make.ready(tx, pool)
        many_queued(tx, pool, 2000)
        return pool

    pool = database.transact(fill)
    assert len(tick(database, pool).gangs) == slots
    assert database.transact(live) == slots
    assert tick(database, pool) == Tick()


def test_rivals_over_one_pool_assign_each_gang_and_each_request_once(database: Database) -> None:
    def fill(tx: Tx) -> Record:
        pool = make.pool(tx)
        many_queued(tx, pool, 200)
        return pool

    pool = database.transact(fill)
    free = [database.transact(lambda tx: make.ready(tx, pool)) for _ in range(8)]
    for wave in range(1, 4):
        ticks = together([lambda: [tick(database, pool) for _ in range(3)]] * 3)
        assert not any(isinstance(one, Exception) for one in ticks), ticks
        leases = database.transact(lambda tx: [make.lease_of(tx, gang) for gang in free])
        assert len({lease.request for lease in leases}) == 8
        assert database.transact(live) == 8
        for lease in leases:
            database.transact(lambda tx, lease=lease: make.finish(tx, lease))
        assert database.transact(succeeded) == 8 * wave


def test_who_finds_the_pool_taken_says_so_at_once(database: Database) -> None:
    pool = database.transact(make.pool)
    with database._engine.begin() as other:
        assert planning.lock_pool(other, pool.id) is not None
        assert tick(database, pool) == Tick(contended=True)
    assert tick(database, pool) == Tick()


def test_tenants_share_the_gangs_whatever_the_length_of_their_backlog(tx: Tx) -> None:
    pool, (ann, bob) = make.pool(tx), (make.tenant(tx), make.tenant(tx))
    for _ in range(30):
        make.queued(tx, pool, tenant=ann)
    for _ in range(10):
        make.queued(tx, pool, tenant=bob)
    served: Counter[str] = Counter()
    gang = make.ready(tx, pool)
    for _ in range(12):
        make.assign(tx, pool)
        lease = make.lease_of(tx, gang)
        served[make.request_row(tx, lease.request).tenant] += 1
        make.finish(tx, lease)
    assert served == {ann: 6, bob: 6}


def test_a_weight_of_three_gets_three_times_as_much(tx: Tx) -> None:
    pool, (ann, bob) = make.pool(tx), (make.tenant(tx, weight=3), make.tenant(tx))
    for who in (ann, bob):
        for _ in range(12):
            make.queued(tx, pool, tenant=who)
    for _ in range(12):
        make.ready(tx, pool)
    make.assign(tx, pool)
    rows = tx.execute(text("SELECT tenant FROM request WHERE state = 'assigned'")).scalars()
    assert Counter(rows) == {ann: 9, bob: 3}


def test_a_tenant_that_comes_late_does_not_starve_the_others(tx: Tx) -> None:
    """Idleness earns a bounded credit only."""
    pool, (ann, bob) = make.pool(tx), (make.tenant(tx), make.tenant(tx))
    tx.execute(
        text("INSERT INTO tenant_share (pool_id, tenant, vtime) VALUES (:p, :t, 1000)"), {"p": pool.id, "t": ann}
    )
    for who in (ann, bob):
        for _ in range(30):
            make.queued(tx, pool, tenant=who)
    for _ in range(14):
        make.ready(tx, pool)
    make.assign(tx, pool)
    rows = Counter(tx.execute(text("SELECT tenant FROM request WHERE state = 'assigned'")).scalars())
    assert rows[bob] == pytest.approx(12, abs=1) and rows[ann] >= 1


def test_nothing_goes_to_a_gang_that_is_silent_draining_loading_or_of_another_pool(tx: Tx) -> None:
    pool = make.pool(tx)
    make.queued(tx, pool)
    silent, draining = make.ready(tx, pool), make.ready(tx, pool)
    make.loading(tx, pool)
    make.ready(tx, make.pool(tx))
    tx.execute(
        text("UPDATE gang_beat SET seen_at = clock_timestamp() - :s * interval '1 second' WHERE gang_id = :g"),
        {"g": silent.id, "s": LEASE.total_seconds() * 0.6},
    )
    gangs.drain(tx, draining.id, Reason.IDLE, "idle")
    assert make.assign(tx, pool) == ()


def test_a_request_that_pauses_before_its_next_try_is_not_assigned(tx: Tx) -> None:
    pool = make.pool(tx)
    lease = make.running(tx, pool)
    make.lose(tx, lease)
    tx.execute(text("UPDATE request SET run_at = clock_timestamp() + interval '1 hour'"))
    make.ready(tx, pool)
    assert make.assign(tx, pool) == ()


def test_a_request_that_wants_a_gang_of_its_own_goes_to_no_other(tx: Tx) -> None:
    pool = make.pool(tx)
    mine = make.queued(tx, pool, placement=Placement.BATCH)
    make.ready(tx, pool)
    assert make.assign(tx, pool) == ()
    own = make.ready(tx, pool, request_id=mine)
    assert scheduling.assign_batch(tx, own.id).gangs == (own.id,)
    assert make.lease_of(tx, own).request == mine
    assert scheduling.assign_batch(tx, own.id) == Tick()


def test_a_batch_gang_whose_request_was_canceled_gets_nothing(tx: Tx) -> None:
    pool = make.pool(tx)
    mine = make.queued(tx, pool, placement=Placement.BATCH)
    own = make.ready(tx, pool, request_id=mine)
    requests.cancel(tx, "default", mine)
    assert scheduling.assign_batch(tx, own.id) == Tick()
    assert list(planning.finished_batch_gangs(tx)) == [own.id]


def test_a_batch_gang_that_is_just_being_ended_gets_nothing(database: Database) -> None:
    """The lease would belong to an incarnation that is over: nobody would ever run it."""

    def fill(tx: Tx) -> make.Gang:
        pool = make.pool(tx)
        return make.ready(tx, pool, request_id=make.queued(tx, pool, placement=Placement.BATCH))

    own = database.transact(fill)
    with database._engine.begin() as other:
        make.hello(other, own)
        assert database.transact(lambda tx: scheduling.assign_batch(tx, own.id)) == Tick()


def test_candidates_are_read_from_the_queue_index_however_long_the_backlog(database: Database) -> None:
    def fill(tx: Tx) -> Record:
        pool = make.pool(tx)
        many_queued(tx, pool, 50_000)
        return pool

    pool = database.transact(fill)
    with database._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as outside:
        outside.execute(text("VACUUM ANALYZE request"))

    def explain(tx: Tx) -> str:
        query = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) {scheduling._CANDIDATES.text}")
        return "\n".join(tx.execute(query, {"p": pool.id, "n": 8, "credit": 10.0}).scalars())

    plan = database.transact(explain)
    assert "request_queue" in plan
    assert "Seq Scan on request" not in plan
    ran = plan.partition("\nPlanning:")[0]  # planning reads the catalogue, more of it with each index
    read = max(int(line.split("hit=")[1].split()[0]) for line in ran.splitlines() if "hit=" in line)
    assert read < 200, plan


def test_a_tick_on_a_long_backlog_stays_short(database: Database) -> None:
    def fill(tx: Tx) -> Record:
        pool = make.pool(tx)
        many_queued(tx, pool, 20_000)
        for _ in range(4):
            make.ready(tx, pool)
        return pool

    pool = database.transact(fill)
    with database._engine.begin() as tx:
        tx.execute(text("SET LOCAL statement_timeout = 500"))
        assert len(scheduling.assign_pool(tx, pool.id, timedelta(seconds=30)).gangs) == 4


def test_what_missed_its_deadline_to_start_is_not_started_in_the_moment_before_it_expires(tx: Tx) -> None:
    pool = make.pool(tx)
    make.queued(tx, pool, start_within_s=0.0)
    make.ready(tx, pool)
    assert not make.assign(tx, pool)


def test_a_batch_gang_does_not_start_what_missed_its_deadline(tx: Tx) -> None:
    pool = make.pool(tx)
    late = make.queued(tx, pool, placed=Placed(placement=Placement.BATCH, reason="asked for"), start_within_s=0.0)
    gang = make.ready(tx, pool, request_id=late)
    assert scheduling.assign_batch(tx, gang.id) == Tick()
