"""The checker of promises finds nothing in what the moves wrote, and names each promise that is broken by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import builders as make
import pytest
from scheduled import House, moment
from sqlalchemy import text

from orchestrator.domain.ids import lease_token, new_id
from orchestrator.domain.placement import Mode, Placed, Placement
from orchestrator.domain.states import Outcome, Reason
from orchestrator.domain.template import Template
from orchestrator.store import (
    accepting,
    attempts,
    gangs,
    incarnations,
    invariants,
    members,
    pulses,
    requests,
    scheduling,
    templates,
)
from orchestrator.store.attempts import Finish
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.incarnations import Rank
from orchestrator.store.orders import NewRequest
from orchestrator.store.pulses import Pulse
from orchestrator.store.tokens import digest

LEASE = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class World:
    """A database in which a little of everything has happened, and the names of what is in it."""

    database: Database
    succeeded: str
    failed: str
    canceled: str
    expired: str
    running: str
    queued: str
    gang: str
    gone: str
    batch: str
    schedule: str


@pytest.fixture(scope="module")
def world(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> World:
    return lived_in(shared_database, tmp_path_factory.mktemp("invariants"))


def lived_in(database: Database, folder: Path) -> World:
    """Only moves of the store, each in a transaction of its own."""
    template = Template.model_validate({"name": "echo", "handler": "echo:Echo", "ranks_per_node": 2})
    pool = database.transact(lambda tx: templates.apply(tx, "default", template))
    output = folder / "echo.txt"
    output.write_text("echo")
    gone = ready_gang(database, pool)
    lost = record(database, pool)
    database.transact(lambda tx: scheduling.assign_pool(tx, pool.id, LEASE))
    database.transact(lambda tx: gangs.end(tx, gone.id, Reason.GANG_LOST, "its node was lost"))
    database.transact(lambda tx: gangs.absent(tx, gone.id))
    gang = ready_gang(database, pool)
    succeed(database, gang, output)  # what was lost is tried again
    failed = record(database, pool)
    fail(database, gang)
    canceled = record(database, pool)
    cancel(database, gang, canceled)
    expired = record(database, pool, start_within_s=0.001)
    database.transact(lambda tx: requests.expire(tx, expired))
    running = record(database, pool)
    start(database, gang)
    return World(
        database=database,
        succeeded=lost,
        failed=failed,
        canceled=canceled,
        expired=expired,
        running=running,
        queued=record(database, pool),
        gang=gang.id,
        gone=gone.id,
        batch=database.transact(lambda tx: batch_under_way(tx, pool)),
        schedule=fired(database, folder, pool),
    )


def fired(database: Database, folder: Path, pool: Record) -> str:
    """A schedule with two ticks, one of which ran."""
    house = House(database, folder, template=pool.template)
    schedule_id = house.make("0 * * * *", end_at="2026-11-20T14:30:00Z")
    house.at(moment("20T13:00"))
    house.at(moment("20T14:00"))
    house.at(moment("20T15:00"))
    assert house.told(schedule_id) == [("20T13:00", "ran"), ("20T14:00", "overlap")]
    return schedule_id


def batch_under_way(tx: Tx, pool: Record) -> str:
    """Three items: one succeeded, one on its gang, one waits."""
    batch_id = make.batch(tx, pool, 3)
    gang = make.ready(tx, pool, batch_id=batch_id)
    done = make.pull(tx, gang)
    assert done is not None
    make.finish(tx, done)
    assert make.pull(tx, gang) is not None
    return batch_id


@dataclass(frozen=True, kw_only=True)
class ReadyGang:
    id: str
    pool: str
    session: bytes


def ready_gang(database: Database, pool: Record) -> ReadyGang:
    gang = database.transact(lambda tx: gangs.plan(tx, pool, backend="local"))
    database.transact(lambda tx: gangs.add_token(tx, gang, "gang token"))
    database.transact(lambda tx: gangs.launched(tx, gang, timedelta(minutes=1)))
    first, second = (Rank(rank=rank, node="n0", pid=None, local_rank=rank, device="cpu") for rank in range(2))

    def hello(tx: Tx) -> incarnations.Born:
        return incarnations.hello(tx, gang, "gang token", nonce=lease_token(), world=2, rank=first, lease=LEASE)

    session = database.transact(hello).session
    database.transact(lambda tx: incarnations.add_rank(tx, gang, 1, second))
    for rank in range(2):
        database.transact(lambda tx, r=rank: incarnations.rank_ready(tx, gang, 1, r, {}))  # type: ignore[misc]
    return ReadyGang(id=gang, pool=pool.id, session=digest(session))


def record(database: Database, pool: Record, *, start_within_s: float | None = None) -> str:
    new = NewRequest(
        id=new_id("req"),
        tenant="default",
        template="echo",
        template_version=1,
        pool_id=pool.id,
        mode=Mode.AUTO,
        placed=Placed(placement=Placement.WARM, reason="a warm gang is idle"),
        priority=0,
        input={},
        labels={},
        timeout_s=60.0,
        start_within_s=start_within_s,
        max_attempts=3,
        max_crashes=3,
        idempotency_key=new_id("key"),
        body_digest=b"body",
    )
    database.transact(lambda tx: accepting.record(tx, [new]))
    return new.id


def start(database: Database, gang: ReadyGang) -> Record:
    """Assign what is due and let the gang say that it runs."""
    database.transact(lambda tx: scheduling.assign_pool(tx, gang.pool, LEASE))
    lease = database.transact(lambda tx: members.work(tx, gang.id, gang.session))[1].leases[0]
    pulse = Pulse(attempt=lease.attempt, token=lease.token, phase="echo", current=1, total=2)
    database.transact(lambda tx: pulses.beat(tx, gang.id, 1, pulse))
    return lease


def finish(database: Database, gang: ReadyGang, report: Finish) -> None:
    lease = start(database, gang) if not report.token else None
    attempt, token = (lease.attempt, lease.token) if lease else ("", report.token)
    whole = Finish(**{**vars(report), "token": token})
    database.transact(lambda tx: attempts.finish(tx, attempt, gang.session, whole))


def succeed(database: Database, gang: ReadyGang, output: Path) -> None:
    published = {
        "name": output.name,
        "media_type": "text/plain",
        "bytes": output.stat().st_size,
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
        "uri": output.as_uri(),
    }
    finish(database, gang, Finish(token="", outcome=Outcome.SUCCEEDED, digest=b"1", run_s=0.1, outputs=[published]))


def fail(database: Database, gang: ReadyGang) -> None:
    error = {"code": "handler_error", "message": "it raises"}
    finish(database, gang, Finish(token="", outcome=Outcome.FAILED, digest=b"2", run_s=0.1, error=error))


def cancel(database: Database, gang: ReadyGang, request: str) -> None:
    lease = start(database, gang)
    database.transact(lambda tx: requests.cancel(tx, "default", request))
    report = Finish(token=lease.token, outcome=Outcome.CANCELED, digest=b"3", run_s=0.1)
    database.transact(lambda tx: attempts.finish(tx, lease.attempt, gang.session, report))


def violations(tx: Tx) -> list[invariants.Violation]:
    return invariants.check(tx) + invariants.damaged(invariants.outputs(tx))


@contextmanager
def rolled_back(database: Database) -> Iterator[Tx]:
    """A transaction in which triggers and foreign keys do not act, and of which nothing stays."""
    with database._engine.connect() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        yield connection
        connection.rollback()


def test_nothing_is_wrong_with_what_the_moves_wrote(world: World) -> None:
    assert world.database.transact(violations) == []


NO_CHECKS = (
    "DO $$ DECLARE c record; BEGIN FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint"
    " WHERE contype = 'c' AND conrelid::regclass::text IN ('request', 'gang', 'attempt', 'output', 'batch',"
    " 'schedule_fire')"
    " LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname); END LOOP; END $$"
)
SECOND_LEASE = (
    "INSERT INTO attempt (id, request_id, number, gang_id, incarnation, slot, token)"
    " VALUES ('att_x', '{queued}', 1, '{gang}', 1, 0, 't')"
)
DAMAGES = {
    "a terminal event is missing": ("I2", "{failed}", "DELETE FROM event WHERE subject = '{failed}' AND move = 'fail'"),
    "a second terminal event": (
        "I2",
        "{failed}",
        "INSERT INTO event (subject, seq, move, data)"
        " SELECT subject, seq + 1, 'cancel', jsonb_set(data, '{{state}}', '\"canceled\"') FROM event"
        " WHERE subject = '{failed}' AND move = 'fail'",
    ),
    "terminal rows are not guarded": ("I2", "request", "DROP TRIGGER request_final ON request"),
    "the guard of terminal rows is off": ("I2", "request", "ALTER TABLE request DISABLE TRIGGER request_final"),
    "an open request has no clock": ("I3", "{queued}", "UPDATE request SET next_check_at = NULL WHERE id = '{queued}'"),
    "nobody heard a clock": (
        "I3",
        "{queued}",
        "UPDATE request SET next_check_at = clock_timestamp() - interval '61 seconds' WHERE id = '{queued}'",
    ),
    "a gang has no clock": ("I3", "{gang}", "UPDATE gang SET next_check_at = NULL WHERE id = '{gang}'"),
    "an attempt number is missing": (
        "I4",
        "{succeeded}",
        "UPDATE attempt SET number = 3 WHERE request_id = '{succeeded}' AND number = 2",
    ),
    "an attempt is not counted": ("I4", "{running}", "UPDATE request SET attempts = 0 WHERE id = '{running}'"),
    "a queued request holds a lease": ("I4", "{queued}", SECOND_LEASE),
    "a running request holds no lease": (
        "I4",
        "{running}",
        "UPDATE attempt SET ended_at = clock_timestamp(), outcome = 'lost' WHERE request_id = '{running}'",
    ),
    "a lease is on another gang than the request": (
        "I4",
        "{running}",
        "UPDATE request SET gang_id = '{gone}' WHERE id = '{running}'",
    ),
    "two leases at one time": (
        "I4",
        "{succeeded}",
        "UPDATE attempt SET ended_at = (SELECT ended_at FROM attempt WHERE request_id = '{succeeded}' AND number = 2)"
        " WHERE request_id = '{succeeded}' AND number = 1",
    ),
    "an attempt without its request": ("I4", "att_x", SECOND_LEASE.replace("{queued}", "req_none")),
    "a lost attempt had an effect": (
        "I5",
        "{succeeded}",
        "UPDATE attempt SET outcome = 'succeeded' WHERE request_id = '{succeeded}' AND number = 1",
    ),
    "the result is of a stale attempt": (
        "I6",
        "{succeeded}",
        "UPDATE result SET attempt_id = (SELECT id FROM attempt WHERE request_id = '{succeeded}' AND number = 1)"
        " WHERE request_id = '{succeeded}'",
    ),
    "the result says something else": (
        "I6",
        "{succeeded}",
        "UPDATE result SET outcome = 'failed' WHERE request_id = '{succeeded}'",
    ),
    "a success without an attempt": (
        "I6",
        "{succeeded}",
        "UPDATE result SET attempt_id = NULL WHERE request_id = '{succeeded}'",
    ),
    "an attempt ended otherwise than its request": (
        "I6",
        "{canceled}",
        "UPDATE attempt SET outcome = 'lost' WHERE request_id = '{canceled}'",
    ),
    "a failure names no error": ("I6", "{failed}", "UPDATE result SET error = NULL WHERE request_id = '{failed}'"),
    "a failure has a value": ("I6", "{failed}", "UPDATE result SET value = '1' WHERE request_id = '{failed}'"),
    "no result": ("I7", "{expired}", "DELETE FROM result WHERE request_id = '{expired}'"),
    "no usage": ("I7", "{expired}", "DELETE FROM usage WHERE request_id = '{expired}'"),
    "a result before the end": (
        "I7",
        "{running}",
        "INSERT INTO result (request_id, outcome, digest) VALUES ('{running}', 'running', '')",
    ),
    "an end that a webhook did not hear": (
        "I7",
        "whk_deaf",
        "INSERT INTO webhook (id, tenant, hears, lane, url, events, signed_by, hears_since)"
        " VALUES ('whk_deaf', 'default', '{canceled}', 'l', 'u', ARRAY['request.canceled'], 'x', '2026-01-01')",
    ),
    "deleted, and still there": ("I7", "{failed}", "INSERT INTO purged (id, tenant) VALUES ('{failed}', 'default')"),
    "usage of nothing": ("I7", "req_none", "UPDATE usage SET request_id = 'req_none' WHERE request_id = '{failed}'"),
    "usage of other attempts": ("I7", "{failed}", "UPDATE usage SET attempts = 9 WHERE request_id = '{failed}'"),
    "outputs of a failure": (
        "I7",
        "{failed}",
        "UPDATE output SET request_id = '{failed}' WHERE request_id = '{succeeded}'",
    ),
    "more attempts than allowed": ("I8", "{succeeded}", "UPDATE request SET max_attempts = 1 WHERE id = '{succeeded}'"),
    "more crashes than allowed": ("I8", "{succeeded}", "UPDATE request SET crashes = 9 WHERE id = '{succeeded}'"),
    "queued again without a try left": ("I8", "{queued}", "UPDATE request SET attempts = 3 WHERE id = '{queued}'"),
    "an unwanted gang stays": (
        "I9",
        "{gone}",
        "UPDATE gang SET present = true, gone_at = clock_timestamp() - interval '121 seconds' WHERE id = '{gone}'",
    ),
    "a lease on a gang that is gone": ("I10", "{running}", "UPDATE gang SET state = 'gone' WHERE id = '{gang}'"),
    "a lease on an old incarnation": ("I10", "{running}", "UPDATE gang SET incarnation = 2 WHERE id = '{gang}'"),
    "a lease on half a gang": (
        "I10",
        "{running}",
        "UPDATE gang_rank SET ready_at = NULL WHERE gang_id = '{gang}' AND rank = 1",
    ),
    "granted before all ranks were ready": (
        "I10",
        "{failed}",
        "UPDATE gang_rank SET ready_at = clock_timestamp() WHERE gang_id = '{gang}' AND rank = 1",
    ),
    "ready, but not whole": ("I10", "{gang}", "DELETE FROM gang_rank WHERE gang_id = '{gang}' AND rank = 1"),
    "two leases on one slot": ("I10", "{gang}", SECOND_LEASE),
    "a lease on a slot that is not there": ("I10", "{queued}", SECOND_LEASE.replace("1, 0, 't'", "1, 1, 't'")),
    "a gang of another pool": ("I10", "{failed}", "UPDATE request SET pool_id = 'pol_x' WHERE id = '{failed}'"),
    "a deaf cancel": (
        "I11",
        "{running}",
        "UPDATE request SET state = 'canceling', version = version + 1 WHERE id = '{running}';"
        " INSERT INTO event (subject, seq, move, data, at) SELECT id, version, 'ask_cancel', '{{}}',"
        " clock_timestamp() - interval '61 seconds' FROM request WHERE id = '{running}'",
    ),
    "ended before it began": (
        "I12",
        "{failed}",
        "UPDATE attempt SET ended_at = granted_at - interval '1 second' WHERE request_id = '{failed}'",
    ),
    "finished before it was created": (
        "I12",
        "{failed}",
        "UPDATE request SET finished_at = created_at - interval '1 second' WHERE id = '{failed}'",
    ),
    "events out of order": (
        "I12",
        "{failed}",
        "UPDATE event SET at = at - interval '1 hour' WHERE subject = '{failed}' AND seq = 3",
    ),
    "started after its deadline": (
        "I12",
        "{failed}",
        "UPDATE request SET start_by = created_at - interval '2 seconds' WHERE id = '{failed}'",
    ),
    "one key for two requests": (
        "I13",
        "",
        "DROP INDEX request_idempotency; UPDATE request SET idempotency_key = 'same'",
    ),
    "an event is missing": ("I14", "{failed}", "DELETE FROM event WHERE subject = '{failed}' AND seq = 2"),
    "an event of a gang is missing": ("I14", "{gang}", "DELETE FROM event WHERE subject = '{gang}' AND seq = 2"),
    "a version without an event": ("I14", "{queued}", "UPDATE request SET version = 9 WHERE id = '{queued}'"),
    "an event of a batch is missing": ("I14", "{batch}", "DELETE FROM event WHERE subject = '{batch}' AND seq = 2"),
    "a batch is not what its events say": ("I15", "{batch}", "UPDATE batch SET items = 7 WHERE id = '{batch}'"),
    "an illegal move of a batch": (
        "I15",
        "{batch}",
        "UPDATE event SET move = 'reopen' WHERE subject = '{batch}' AND seq = 2",
    ),
    "a batch without a clock": ("I3", "{batch}", "UPDATE batch SET next_check_at = NULL WHERE id = '{batch}'"),
    "a tally that counts an end twice": (
        "I18",
        "{batch}",
        "INSERT INTO batch_tally (batch_id, state, items, run_s, gpu_seconds) VALUES ('{batch}', 'failed', 1, 0, 0)",
    ),
    "a tally that forgets what was used": ("I18", "{batch}", "UPDATE batch_tally SET gpu_seconds = 0"),
    "a batch that lacks an item": ("I18", "{batch}", "DELETE FROM request WHERE batch_id = '{batch}' AND line = 3"),
    "a batch that is over before its items": (
        "I18",
        "{batch}",
        "UPDATE batch SET state = 'completed', finished_at = clock_timestamp() WHERE id = '{batch}'",
    ),
    "an item of no batch": (
        "I18",
        "req_",
        "UPDATE request SET batch_id = 'bat_x' WHERE batch_id = '{batch}' AND line = 3",
    ),
    "a replaced item that is open": (
        "I18",
        "req_",
        "UPDATE request SET replaced_by = '{queued}' WHERE batch_id = '{batch}' AND line = 3",
    ),
    "more items on gangs than may be": ("I18", "{batch}", "UPDATE batch SET max_parallel = 0 WHERE id = '{batch}'"),
    "an item on a gang of another batch": (
        "I10",
        "req_",
        "UPDATE gang SET batch_id = 'bat_x' WHERE batch_id = '{batch}'",
    ),
    "a row is not what its events say": ("I15", "{queued}", "UPDATE request SET reason = 'x' WHERE id = '{queued}'"),
    "a gang is not what its events say": ("I15", "{gang}", "UPDATE gang SET launches = 7 WHERE id = '{gang}'"),
    "an illegal move": (
        "I15",
        "{failed}",
        "UPDATE event SET data = jsonb_set(data, '{{state}}', '\"running\"') WHERE subject = '{failed}' AND seq = 1",
    ),
    "an illegal move of a gang": (
        "I15",
        "{gang}",
        "UPDATE event SET move = 'end' WHERE subject = '{gang}' AND seq = 2",
    ),
    "a tick whose run was never recorded": (
        "I17",
        "{schedule}",
        "UPDATE schedule_fire SET request_id = 'req_x' WHERE state = 'ran'",
    ),
    "two ticks of one run": (
        "I17",
        "req_",
        "UPDATE schedule_fire SET state = 'ran', request_id = (SELECT max(request_id) FROM schedule_fire)",
    ),
    "a tick of a version that nobody said": ("I17", "{schedule}", "UPDATE schedule_fire SET version = 2"),
    "a tick without a row": ("I17", "{schedule}", "DELETE FROM schedule_fire WHERE state = 'skipped'"),
    "a tick that the rule does not name": (
        "I17",
        "{schedule}",
        "UPDATE schedule_fire SET tick = tick + interval '1 minute' WHERE state = 'skipped'",
    ),
    "a schedule without a clock": (
        "I3",
        "{schedule}",
        "UPDATE schedule SET ended_at = NULL, next_check_at = clock_timestamp() - interval '1 hour'",
    ),
    "the token of a gone gang": ("I23", "{gone}", "UPDATE gang SET session_hash = 'x' WHERE id = '{gone}'"),
    "a file of another size": ("I25", "{succeeded}", "UPDATE output SET bytes = 5"),
    "a file with other bytes": ("I25", "{succeeded}", "UPDATE output SET sha256 = repeat('0', 64)"),
    "a file that is gone": ("I25", "{succeeded}", "UPDATE output SET uri = uri || '.gone'"),
}


@contextmanager
def unguarded(world: World) -> Iterator[Tx]:
    """The world without what would stop a damage: constraints and unique indexes."""
    with rolled_back(world.database) as tx:
        tx.execute(text(NO_CHECKS))
        tx.execute(text("DROP INDEX attempt_one_live, attempt_one_slot, schedule_fire_request"))
        yield tx


def damage_one(tx: Tx, world: World, statement: str) -> None:
    tx.execute(text(statement.format(**vars(world)).replace(":", "\\:")))


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_broken_promise_is_named(world: World, damage: str) -> None:
    invariant, subject, statement = DAMAGES[damage]
    with unguarded(world) as tx:
        damage_one(tx, world, statement)
        found = violations(tx)
    assert [one for one in found if one.invariant == invariant and subject.format(**vars(world)) in one.subject], found


def test_every_query_finds_some_damage(world: World) -> None:
    idle = dict(enumerate(invariants._CHECKS))
    with unguarded(world) as tx:
        for _, _, statement in DAMAGES.values():
            before = tx.begin_nested()
            damage_one(tx, world, statement)
            for number, (_, query) in list(idle.items()):
                if tx.execute(text(query), invariants._WORDS).first():
                    del idle[number]
            before.rollback()
    assert not idle
