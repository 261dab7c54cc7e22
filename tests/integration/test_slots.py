"""Gangs of several replicas: each slot holds one lease, all are filled, and what ends one leaves the others alone."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import builders as make
import pytest
from builders import Gang, Lease
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from races import together
from sqlalchemy import text

from orchestrator.domain.states import Outcome, Reason
from orchestrator.errors import Conflict, StaleLease
from orchestrator.loops import rescue
from orchestrator.store import (
    accepting,
    batch_invariants,
    fleet,
    gangs,
    incarnations,
    invariants,
    items,
    loads,
    members,
    planning,
    requests,
    scheduling,
)
from orchestrator.store.attempts import Finish
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.express import Report, succeed


def pool(tx: Tx, replicas: int = 4, **changes: Any) -> Record:
    """Of gangs with replicas of two ranks."""
    return make.pool(tx, ranks_per_node=2 * replicas, replicas=replicas, **changes)


def slots_of(tx: Tx, gang: Gang) -> list[int]:
    return list(leases(tx, gang))


def leases(tx: Tx, gang: Gang) -> dict[int, Lease]:
    query = text("SELECT * FROM attempt WHERE gang_id = :g AND ended_at IS NULL ORDER BY slot")
    return {
        one.slot: Lease(attempt=one.id, token=one.token, request=one.request_id, gang=gang)
        for one in tx.execute(query, {"g": gang.id})
    }


def row(tx: Tx, lease: Lease) -> Record:
    return requests.get(tx, "default", lease.request)


def full(tx: Tx, of: Record, count: int = 4) -> tuple[Gang, dict[int, Lease]]:
    """A gang whose slots all run something."""
    gang = make.ready(tx, of)
    for _ in range(count):
        make.queued(tx, of)
    make.assign(tx, of)
    held = leases(tx, gang)
    for lease in held.values():
        assert make.beat(tx, lease) == "continue"
    return gang, held


# ------------------------------------------------------------------------------------------------------------ granting


def test_one_look_fills_every_slot_of_every_gang_and_no_more(tx: Tx) -> None:
    of = pool(tx)
    first, second = make.ready(tx, of), make.ready(tx, of)
    for _ in range(10):
        make.queued(tx, of)
    assert Counter(make.assign(tx, of)) == {first.id: 4, second.id: 4}
    assert slots_of(tx, first) == slots_of(tx, second) == [0, 1, 2, 3]
    assert make.assign(tx, of) == ()


def test_a_slot_that_became_free_is_the_one_that_is_filled(tx: Tx) -> None:
    of = pool(tx)
    gang, held = full(tx, of)
    make.finish(tx, held[2])
    make.queued(tx, of)
    assert list(make.assign(tx, of)) == [gang.id]
    assert make.lease_of(tx, gang, 2).request != held[2].request


def test_each_replica_is_told_of_its_own_lease_only(tx: Tx) -> None:
    gang, held = full(tx, pool(tx))
    told = [members.work(tx, gang.id, gang.session_hash, slot)[1].leases for slot in range(4)]
    assert [[one.attempt for one in leases] for leases in told] == [[held[slot].attempt] for slot in range(4)]


def test_requests_that_come_together_are_accepted_onto_the_slots_of_one_gang(tx: Tx) -> None:
    of = pool(tx, 2)
    gang = make.ready(tx, of)
    new = [make.new_request(of, placed=None) for _ in range(3)]
    taken = accepting.take(tx, of, new, make.LEASE)
    assert {lease.slot for one in taken.values() if (lease := one.lease)} == {0, 1} == set(slots_of(tx, gang))
    assert len(taken) == 2


def test_a_success_frees_its_slot_and_is_billed_for_the_ranks_of_its_replica(tx: Tx) -> None:
    of = pool(tx, gpus_per_rank=0.5)
    gang, held = full(tx, of)
    finish = Finish(token=held[3].token, outcome=Outcome.SUCCEEDED, digest=b"d", run_s=10.0)
    freed = succeed(tx, [Report(attempt=held[3].attempt, session_hash=gang.session_hash, finish=finish)])
    assert freed[held[3].attempt].slot == 3 and slots_of(tx, gang) == [0, 1, 2]
    assert row(tx, held[3]).gpu_seconds == 10.0 * 2 * 0.5
    make.finish(tx, held[0], Outcome.SUCCEEDED)
    ranks = tx.execute(text("SELECT DISTINCT ranks FROM usage WHERE pool_id = :p"), {"p": of.id})
    assert list(ranks.scalars()) == [2]


@pytest.mark.parametrize("replicas", [1, 3])
def test_rivals_never_give_one_slot_away_twice(database: Database, replicas: int) -> None:
    def fill(tx: Tx) -> tuple[Record, list[Gang]]:
        of = pool(tx, replicas)
        free = [make.ready(tx, of) for _ in range(3)]
        for _ in range(40):
            make.queued(tx, of)
        return of, free

    of, free = database.transact(fill)
    for _ in range(3):
        looks = together([lambda: database.transact(lambda tx: make.assign(tx, of))] * 4)
        assert not any(isinstance(one, Exception) for one in looks), looks
        held = [lease for gang in free for lease in database.transact(lambda tx, g=gang: leases(tx, g)).values()]
        assert len({lease.request for lease in held}) == len(held) == 3 * replicas
        for lease in held:
            database.transact(lambda tx, lease=lease: make.finish(tx, lease))


# ------------------------------------------------------------------------------------------------- ends of one, of all


def test_a_cancel_of_one_leaves_its_neighbours(tx: Tx) -> None:
    gang, held = full(tx, pool(tx))
    requests.cancel(tx, "default", held[1].request)
    assert [make.beat(tx, held[slot]) for slot in range(4)] == ["continue", "cancel", "continue", "continue"]
    make.finish(tx, held[1], Outcome.CANCELED)
    assert slots_of(tx, gang) == [0, 2, 3]


def test_a_cancel_of_what_never_ran_ends_only_that(tx: Tx) -> None:
    of = pool(tx, 2)
    gang = make.ready(tx, of)
    for _ in range(2):
        make.queued(tx, of)
    make.assign(tx, of)
    held = leases(tx, gang)
    for lease in held.values():
        requests.cancel(tx, "default", lease.request)
    assert members.work(tx, gang.id, gang.session_hash, 1)[1].leases == []
    assert [row(tx, held[slot]).state for slot in range(2)] == ["canceling", "canceled"]


def test_a_rank_that_dies_takes_its_neighbours_with_it_but_not_the_blame(tx: Tx) -> None:
    gang, held = full(tx, pool(tx))
    gangs.end(tx, gang.id, Reason.RANK_FAILED, "SIGKILL", rank=5, node="n1")
    told = {slot: row(tx, lease) for slot, lease in held.items()}
    assert {one.state for one in told.values()} == {"queued"}
    assert {slot: one.crashes for slot, one in told.items()} == {0: 0, 1: 0, 2: 1, 3: 0}
    assert {slot: one.reason_code for slot, one in told.items() if slot != 2} == dict.fromkeys((0, 1, 3), "gang_lost")
    assert told[2].reason_code == "rank_failed" and "replica 2" in told[0].reason


def test_who_left_its_incarnation_unusable_is_not_there_to_be_blamed_and_nobody_else_is(tx: Tx) -> None:
    gang, held = full(tx, pool(tx, 2), 2)
    make.finish(tx, held[1])
    start = timedelta(minutes=1)
    incarnations.break_incarnation(tx, gang.id, Reason.UNHEALTHY, "unusable", start, rank=None, node=None, slot=1)
    assert (row(tx, held[0]).state, row(tx, held[0]).crashes, row(tx, held[1]).state) == ("queued", 0, "succeeded")


def test_what_is_final_for_one_is_a_loss_for_its_neighbours(tx: Tx) -> None:
    gang, held = full(tx, pool(tx))
    gangs.end(tx, gang.id, Reason.TIMEOUT, "took too long", rank=0, node="n0")
    assert [row(tx, held[slot]).state for slot in range(4)] == ["failed", "queued", "queued", "queued"]


def test_an_attempt_that_outlives_its_time_is_blamed_alone(tx: Tx) -> None:
    _, held = full(tx, pool(tx))
    late = text(
        "UPDATE request SET assigned_at = clock_timestamp() - interval '1 hour', created_at = assigned_at,"
        " next_check_at = clock_timestamp() WHERE id = :r"
    )
    tx.execute(late, {"r": held[3].request})
    assert rescue._end_overdue(tx)
    assert [row(tx, held[slot]).crashes for slot in range(4)] == [0, 0, 0, 1]


# --------------------------------------------------------------------------------------------------------------- beats


def silent_s(tx: Tx, gang: Gang) -> float:
    query = text("SELECT extract(epoch FROM clock_timestamp() - seen_at) FROM gang_beat WHERE gang_id = :g")
    return float(tx.execute(query, {"g": gang.id}).scalar_one())


def aged(tx: Tx, gang: Gang, seconds: float) -> None:
    tx.execute(
        text(
            "UPDATE gang_beat SET seen_at = seen_at - :s * interval '1 second',"
            " heard = ARRAY(SELECT h - :s * interval '1 second' FROM unnest(heard) h) WHERE gang_id = :g"
        ),
        {"g": gang.id, "s": seconds},
    )


def beat(tx: Tx, gang: Gang, slot: int, *ranks: dict[str, Any], starting: str | None = None) -> None:
    who = members.member(tx, gang.id, gang.session_hash)
    members.beat_of_replica(tx, who, slot, ranks, starting)


def test_a_gang_is_as_alive_as_the_replica_that_was_silent_longest(tx: Tx) -> None:
    gang = make.ready(tx, pool(tx, 2))
    aged(tx, gang, 40)
    beat(tx, gang, 0)
    assert silent_s(tx, gang) > 39
    beat(tx, gang, 1)
    assert silent_s(tx, gang) < 10


def test_the_replica_that_fell_silent_is_the_one_at_fault(tx: Tx) -> None:
    gang, held = full(tx, pool(tx, 2), 2)
    aged(tx, gang, 100)
    beat(tx, gang, 0)
    tx.execute(text("UPDATE gang SET next_check_at = clock_timestamp() WHERE id = :g"), {"g": gang.id})
    (overdue,) = [one for one in gangs.overdue(tx) if one.id == gang.id]
    assert overdue.silent_slot == 1 and overdue.leases == 2
    assert rescue._verdict(overdue, make.LEASE, timedelta(hours=1))[0] is Reason.LEASE_EXPIRED
    gangs.end(tx, gang.id, Reason.LEASE_EXPIRED, "no beat", slot=overdue.silent_slot)
    assert [row(tx, held[slot]).crashes for slot in range(2)] == [0, 1]


def test_a_silent_replica_keeps_new_work_from_its_gang(tx: Tx) -> None:
    of = pool(tx, 2)
    gang = make.ready(tx, of)
    aged(tx, gang, 40)
    beat(tx, gang, 1)
    make.queued(tx, of)
    assert make.assign(tx, of) == ()


def test_each_replica_tells_of_its_own_ranks_and_the_first_one_of_the_start(tx: Tx) -> None:
    gang = make.loading(tx, pool(tx, 2))
    beat(tx, gang, 1, {"rank": 2, "step": 7}, {"rank": 3, "step": 7}, starting="warmup")
    beat(tx, gang, 0, {"rank": 0, "step": 4}, starting="setup")
    beat(tx, gang, 1, {"rank": 3, "step": 8})
    beat(tx, gang, 2, {"rank": 9, "step": 1})
    told = tx.execute(text("SELECT * FROM gang_beat WHERE gang_id = :g"), {"g": gang.id}).one()
    assert [(one["rank"], one["step"]) for one in told.ranks] == [(0, 4), (3, 8)]
    assert told.starting == "setup" and len(told.heard) == 2


def test_ranks_that_know_of_no_replicas_are_refused(tx: Tx) -> None:
    gang = make.launching(tx, pool(tx, 2))
    with pytest.raises(Conflict, match="2 replicas, its ranks know of 1"):
        incarnations.hello(tx, gang.id, gang.token, nonce="0" * 32, world=4, rank=make.rank(0), lease=make.LEASE)


# ------------------------------------------------------------------------------------------------------------- leaving


def test_a_gang_leaves_when_the_last_of_its_replicas_is_done(tx: Tx) -> None:
    gang, held = full(tx, pool(tx, 2), 2)
    gangs.drain(tx, gang.id, Reason.IDLE, "drained by a person")

    def told(slot: int) -> tuple[int, bool]:
        duty = members.work(tx, gang.id, gang.session_hash, slot)[1]
        return len(duty.leases), duty.drain

    assert (told(0), told(1)) == ((1, False), (1, False))
    make.finish(tx, held[0])
    assert (told(0), told(1)) == ((0, False), (1, True))
    make.finish(tx, held[1])
    assert (told(0), told(1)) == ((0, True), (0, True))


def test_a_new_incarnation_ends_the_leases_of_all_replicas(tx: Tx) -> None:
    gang, held = full(tx, pool(tx))
    again = make.hello(tx, gang)
    assert slots_of(tx, gang) == [] and {row(tx, lease).state for lease in held.values()} == {"queued"}
    with pytest.raises(StaleLease):
        members.work(tx, gang.id, gang.session_hash, 3)
    assert silent_s(tx, again) < 10


# ------------------------------------------------------------------------------------------------------------- batches


def test_each_replica_of_a_batch_gang_pulls_its_own_items(tx: Tx) -> None:
    of = pool(tx, 2)
    batch = make.batch(tx, of, items=3)
    gang = make.ready(tx, of, batch_id=batch)
    first, second = make.pull(tx, gang, 0), make.pull(tx, gang, 1)
    assert first and second and first.request != second.request
    assert make.pull(tx, gang, 0) is None
    make.finish(tx, first)
    third = make.pull(tx, gang, 0)
    assert third and {make.item(tx, batch, n).id for n in (1, 2, 3)} == {
        first.request,
        second.request,
        third.request,
    }
    make.finish(tx, third)
    assert make.pull(tx, gang, 0) is None and slots_of(tx, gang) == [1]
    assert not [one for one in items.gangs_without_work(tx) if one == gang.id]
    make.finish(tx, second)
    assert [one for one in items.gangs_without_work(tx) if one == gang.id]


def test_a_batch_wants_no_more_gangs_than_its_items_fill(tx: Tx) -> None:
    of = pool(tx, 4)
    for count, most in ((3, 1), (4, 1), (5, 2), (100, 2)):
        batch = make.batch(tx, of, items=count, max_parallel=2)
        assert {one.id: one.most for one in items.wants(tx, of.id)}[batch] == most


def test_shared_batches_use_at_most_max_parallel_gangs_worth_of_slots(tx: Tx) -> None:
    of = pool(tx, 4, batch={"max_gangs": 1, "share_pool": True}, pool={"max": 3})
    batch = make.batch(tx, of, items=20, max_parallel=1, shared=True)
    warm = [make.ready(tx, of) for _ in range(2)]
    own = make.ready(tx, of, batch_id=batch)
    assert make.pull(tx, own, 0) and make.pull(tx, own, 3)
    assert len(make.assign(tx, of)) == 2
    assert make.pull(tx, own, 1) is None and make.assign(tx, of) == ()
    assert sum(len(slots_of(tx, gang)) for gang in (*warm, own)) == 4
    assert not [one for one in invariants.check(tx) if one.subject == batch]


# ---------------------------------------------------------------------------------------------------------------- load


def test_load_and_pool_count_replicas(tx: Tx) -> None:
    of = pool(tx, pool={"max": 3})
    full(tx, of, 3)
    make.loading(tx, of)
    make.ready(tx, of)
    load = loads.pool_load(tx, of, history=False)
    assert (load.busy, load.idle, load.starting, load.gangs) == (3, 5, 4, 3)
    view, _ = planning.view_pool(tx, _locked(tx, of))
    assert sorted((gang.leases, gang.starting) for gang in view.gangs) == [(0, False), (0, True), (3, False)]
    assert view.replicas == 4


def test_gpu_seconds_of_what_runs_are_those_of_its_replica(tx: Tx) -> None:
    tenant = make.tenant(tx)
    of = make.pool(tx, tenant=tenant, ranks_per_node=4, replicas=2)
    gang = make.ready(tx, of)
    for _ in range(2):
        make.queued(tx, of, tenant=tenant)
    make.assign(tx, of)
    minute = "clock_timestamp() - interval '60 seconds'"
    tx.execute(text(f"UPDATE gang SET launched_at = {minute}, first_ready_at = {minute} WHERE id = :g"), {"g": gang.id})
    tx.execute(text(f"UPDATE gang_rank SET ready_at = {minute} WHERE gang_id = :g"), {"g": gang.id})
    tx.execute(
        text(
            "UPDATE attempt SET granted_at = clock_timestamp() - interval '59 seconds' WHERE gang_id = :g AND slot = 0"
        ),
        {"g": gang.id},
    )
    (spent,) = fleet.spent(tx, tenant, 3600.0)
    assert spent.warm == pytest.approx(2 * 60, abs=6) and spent.idle == pytest.approx(2 * 60, abs=6)


def _locked(tx: Tx, of: Record) -> Record:
    found = planning.lock_pool(tx, of.id)
    assert found is not None
    return found


# ------------------------------------------------------------------------------------------------------------ property


WATCHED = (
    invariants._ONE_LEASE,
    invariants._OVERLAP,
    invariants._LEASE_ON_WHOLE_GANG,
    invariants._ONE_LEASE_PER_SLOT,
    invariants._SLOT_EXISTS,
    invariants._RIGHT_GANG,
    batch_invariants.MOST_PARALLEL,
)


def broken(tx: Tx) -> list[Any]:
    return [tuple(one) for query in WATCHED for one in tx.execute(text(query), invariants._WORDS)]


@settings(
    max_examples=6, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(1, 4), st.lists(st.sampled_from("qqqabfclrdh"), min_size=10, max_size=40), st.randoms())
def test_whatever_happens_no_slot_and_no_request_is_held_twice(
    database: Database, replicas: int, steps: list[str], random: Any
) -> None:
    """Of: a request, a look, a beat, a finish, a cancel, a lost gang, a resting batch item, a drain, a new hello."""
    of = database.transact(lambda tx: pool(tx, replicas, batch={"max_gangs": 2, "share_pool": True}, pool={"max": 3}))
    database.transact(lambda tx: make.batch(tx, of, items=6, max_parallel=1, shared=True))
    live = [database.transact(lambda tx: make.ready(tx, of)) for _ in range(2)]

    def step(tx: Tx, kind: str) -> None:
        gang = random.choice(live)
        held = list(leases(tx, gang).values())
        match kind:
            case "q":
                make.queued(tx, of)
            case "a":
                make.assign(tx, of)
            case "b" if held:
                make.beat(tx, random.choice(held))
            case "f" if held:
                make.finish(tx, random.choice(held))
            case "c" if held:
                requests.cancel(tx, "default", random.choice(held).request)
            case "l" | "d":
                end = gangs.end if kind == "l" else gangs.drain
                rank = {"rank": random.randrange(2 * replicas), "node": "n"} if kind == "l" else {}
                end(tx, gang.id, Reason.RANK_FAILED if kind == "l" else Reason.IDLE, "a test says so", **rank)
                live[live.index(gang)] = make.ready(tx, of)
            case "h":
                live[live.index(gang)] = born = make.hello(tx, gang)
                make.all_ranks_ready(tx, born)
            case "r":
                tx.execute(text("UPDATE request SET run_at = clock_timestamp() WHERE state = 'queued'"))

    for kind in steps:
        database.transact(lambda tx, kind=kind: step(tx, kind))
        assert not (found := database.transact(broken)), found
    free = database.transact(lambda tx: scheduling._free_slots(tx, of.id, make.LEASE, 99))
    database.transact(lambda tx: make.assign(tx, of))
    waits = "SELECT count(*) FROM request WHERE pool_id = :p AND state = 'queued' AND run_at <= clock_timestamp()"
    left = database.transact(lambda tx: tx.execute(text(f"{waits} AND batch_id IS NULL"), {"p": of.id}).scalar_one())
    still = database.transact(lambda tx: scheduling._free_slots(tx, of.id, make.LEASE, 99))
    assert not (left and still), f"{left} wait, {len(free)} were free, {len(still)} are"
