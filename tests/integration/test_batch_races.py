"""Batches at their edges: moves that meet claims and each other, counts that must not drift, a share for the small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import builders as make
import httpx
import pytest
from builders import Gang, Lease
from races import together
from replica import replica
from scripted_backend import ScriptedBackend
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from orchestrator.api import batch_common, batch_items, batch_views
from orchestrator.backends.places import Places
from orchestrator.domain.states import BatchReason, Outcome, Reason
from orchestrator.loops import batches as batch_loop
from orchestrator.loops import plan
from orchestrator.loops.desk import Desk
from orchestrator.settings import Settings
from orchestrator.store import batch_figures, batch_retention, batches, gangs, items
from orchestrator.store.database import Database, Record, Tx


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    return Desk(
        database=database, places=Places(ScriptedBackend()), settings=Settings(folder=tmp_path), wake=lambda **_: None
    )


def looked(desk: Desk) -> dict[str, list[str]]:
    """One pass of the loop over all that is open."""
    due = "UPDATE batch SET next_check_at = now() WHERE finished_at IS NULL"
    desk.database.transact(lambda tx: tx.execute(text(due)))
    return batch_loop.run_once(desk).did


def pool(tx: Tx, **batch: Any) -> Record:
    return make.pool(tx, batch={"max_gangs": 4, **batch})


def gang_of(tx: Tx, of: Record, batch_id: str) -> Gang:
    return make.ready(tx, of, batch_id=batch_id)


def pulled(tx: Tx, gang: Gang) -> Lease:
    lease = make.pull(tx, gang)
    assert lease is not None
    return lease


def end_items(tx: Tx, gang: Gang, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        make.finish(tx, pulled(tx, gang), outcome)


def row(desk: Desk, batch_id: str) -> Record:
    return desk.database.transact(lambda tx: make.batch_row(tx, batch_id))


FAILED, SUCCEEDED = Outcome.FAILED, Outcome.SUCCEEDED

# -------------------------------------------------------------------------------------------- failures that are counted


def test_failures_that_are_tried_again_are_not_forgiven_on_top(desk: Desk) -> None:
    """Three of at most two failed; resumed, it is stopped by the third failure again, and no later one."""

    def begin(tx: Tx) -> tuple[str, Gang]:
        of = pool(tx)
        batch_id = make.batch(tx, of, 10, max_failed="2")
        gang = gang_of(tx, of, batch_id)
        end_items(tx, gang, FAILED, FAILED, FAILED)
        return batch_id, gang

    batch_id, gang = desk.database.transact(begin)
    looked(desk)
    assert row(desk, batch_id).state == "failed"

    def resume(tx: Tx) -> None:
        batch = batch_figures.lock_own(tx, "default", batch_id)
        batch_common.open_again(tx, batch)
        assert items.repeat(tx, batch) == 10
        end_items(tx, gang, FAILED, FAILED, FAILED)

    desk.database.transact(resume)
    looked(desk)
    assert (row(desk, batch_id).state, row(desk, batch_id).reason_code) == ("failed", "max_failed")


def test_of_failures_that_were_forgiven_one_that_is_tried_again_may_fail_again(desk: Desk) -> None:
    def begin(tx: Tx) -> tuple[str, Gang]:
        of = pool(tx)
        batch_id = make.batch(tx, of, 10, max_failed="0", on_max_failed="pause")
        gang = gang_of(tx, of, batch_id)
        end_items(tx, gang, FAILED, FAILED)
        return batch_id, gang

    batch_id, gang = desk.database.transact(begin)
    looked(desk)

    def again(tx: Tx) -> int:
        batch = batch_figures.lock_own(tx, "default", batch_id)
        assert batches.resume(tx, batch_id, int(batch.failed))
        items.repeat(tx, batch, custom_id="i-1")
        return int(make.batch_row(tx, batch_id).forgiven)

    assert desk.database.transact(again) == 1
    desk.database.transact(lambda tx: end_items(tx, gang, SUCCEEDED))
    looked(desk)
    assert row(desk, batch_id).state == "running"
    desk.database.transact(lambda tx: end_items(tx, gang, FAILED))
    looked(desk)
    assert row(desk, batch_id).state == "paused"


@pytest.mark.parametrize("looks", [True, False])
def test_too_many_failures_end_a_batch_alike_whether_or_not_somebody_looked_before_the_last(
    desk: Desk, looks: bool
) -> None:
    def begin(tx: Tx) -> tuple[str, Lease]:
        of = pool(tx)
        batch_id = make.batch(tx, of, 2, max_failed="0")
        first, second = gang_of(tx, of, batch_id), gang_of(tx, of, batch_id)
        end_items(tx, first, FAILED)
        return batch_id, pulled(tx, second)

    batch_id, last = desk.database.transact(begin)
    if looks:
        looked(desk)
    desk.database.transact(lambda tx: make.finish(tx, last))
    looked(desk)
    assert (row(desk, batch_id).state, row(desk, batch_id).outcome) == ("failed", "partial")


# --------------------------------------------------------------------------------------------------- who waits for whom


def test_one_claim_of_an_item_does_not_wait_for_another(database: Database) -> None:
    def begin(tx: Tx) -> list[Gang]:
        of = pool(tx)
        batch_id = make.batch(tx, of, 4)
        both = [gang_of(tx, of, batch_id) for _ in range(2)]
        batches.start(tx, batch_id)
        return both

    first, second = database.transact(begin)
    with database._engine.begin() as uncommitted:
        pulled(uncommitted, first)
        with database._engine.begin() as other:
            other.execute(text("SET LOCAL lock_timeout = '100ms'"))
            pulled(other, second)


def test_a_batch_past_its_deadline_is_not_first_in_line_for_ever(desk: Desk) -> None:
    def begin(tx: Tx) -> str:
        of = pool(tx)
        batch_id = make.batch(tx, of, 2, expire_after_s=0.001)
        pulled(tx, gang_of(tx, of, batch_id))
        return batch_id

    batch_id = desk.database.transact(begin)
    looked(desk)
    later = "SELECT next_check_at > clock_timestamp() FROM batch WHERE id = :b"
    assert row(desk, batch_id).state == "finalizing"
    assert desk.database.transact(lambda tx: tx.execute(text(later), {"b": batch_id}).scalar_one())


def test_a_small_batch_is_ended_while_a_large_one_is(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The large one is due first, and takes many rounds."""
    monkeypatch.setattr(batch_loop, "CHUNK", 2)

    def begin(tx: Tx) -> tuple[str, str]:
        of = pool(tx)
        large, small = make.batch(tx, of, 40), make.batch(tx, of, 1)
        for one in (large, small):
            batches.cancel(tx, one, "somebody asked")
        return large, small

    large, small = desk.database.transact(begin)
    seen: list[str] = []
    monkeypatch.setattr(batch_loop, "_end_items", _noting(seen, batch_loop._end_items))
    assert batch_loop.run_once(desk).did == {"canceled": [small, large]}
    assert seen.index(small) <= 2 < seen.count(large)


def _noting(seen: list[str], end_items: Any) -> Any:
    def noted(tx: Tx, batch: Record) -> Any:
        seen.append(batch.id)
        return end_items(tx, batch)

    return noted


def test_gangs_are_asked_to_stop_only_after_that_is_committed(desk: Desk, database: Database) -> None:
    def begin(tx: Tx) -> Lease:
        of = pool(tx)
        batch_id = make.batch(tx, of, 1)
        lease = pulled(tx, gang_of(tx, of, batch_id))
        batches.cancel(tx, batch_id, "somebody asked")
        return lease

    lease = database.transact(begin)
    states: list[str] = []

    def wake(*, gangs: Any = (), requests: Any = ()) -> None:
        states.extend(database.transact(lambda tx: [make.request_row(tx, one).state for one in requests]))

    looked(Desk(database=database, places=desk.places, settings=desk.settings, wake=wake))
    assert states[0] == "canceling"
    database.transact(lambda tx: make.finish(tx, lease, Outcome.CANCELED))


def test_a_claim_between_two_looks_is_no_tally_that_is_off(tx: Tx) -> None:
    of = pool(tx)
    batch_id = make.batch(tx, of, 1)
    assert not batch_figures.is_off(tx, batch_id)
    lease = pulled(tx, gang_of(tx, of, batch_id))
    assert not batch_figures.is_off(tx, batch_id)
    make.finish(tx, lease)
    assert not batch_figures.is_off(tx, batch_id)


# ------------------------------------------------------------------------------------------------ gangs and their share


def test_what_a_gang_that_leaves_still_runs_counts_to_what_may_be_parallel(desk: Desk) -> None:
    def begin(tx: Tx) -> tuple[str, list[Gang]]:
        of = pool(tx)
        batch_id = make.batch(tx, of, 9, max_parallel=2)
        both = [gang_of(tx, of, batch_id) for _ in range(2)]
        for gang in both:
            pulled(tx, gang)
        gangs.drain(tx, both[0].id, Reason.DRAINED, "its node was told to go")
        return batch_id, both

    _, (leaving, _) = desk.database.transact(begin)
    assert "planned" not in plan.run_once(desk).did
    desk.database.transact(lambda tx: make.finish(tx, make.lease_of(tx, leaving)))
    assert len(plan.run_once(desk).did["planned"]) == 1


def test_a_large_batch_gives_a_small_one_a_gang_between_two_items(desk: Desk) -> None:
    def begin(tx: Tx) -> tuple[list[Gang], str]:
        of = pool(tx)
        large = make.batch(tx, of, 50, max_parallel=4)
        every = [gang_of(tx, of, large) for _ in range(4)]
        for gang in every:
            pulled(tx, gang)
        return every, make.batch(tx, of, 3)

    every, small = desk.database.transact(begin)
    (giving,) = plan.run_once(desk).did["drained"]
    assert "drained" not in plan.run_once(desk).did, "one is enough"

    def done(tx: Tx) -> None:
        (gang,) = (one for one in every if one.id == giving)
        make.finish(tx, make.lease_of(tx, gang))
        gangs.end(tx, giving, Reason.DRAINED, "its processes ended in good order")
        gangs.absent(tx, giving)

    desk.database.transact(done)
    (planned,) = plan.run_once(desk).did["planned"]
    assert desk.database.transact(lambda tx: make.gang_row(tx, planned)).batch_id == small


def test_warm_gangs_are_lent_in_turn(tx: Tx) -> None:
    of = pool(tx)
    for _ in range(4):
        make.ready(tx, of)
    large = make.batch(tx, of, 50, shared=True, max_parallel=4)
    small = make.batch(tx, of, 3, shared=True, max_parallel=4)
    make.assign(tx, of)
    assert [make.counts(tx, one).leased for one in (large, small)] == [2, 2]


# ----------------------------------------------------------------------------------------------- moves that meet others


def test_a_cancel_also_stops_what_runs_of_a_batch_that_expires(desk: Desk) -> None:
    def begin(tx: Tx) -> tuple[str, Lease]:
        of = pool(tx)
        batch_id = make.batch(tx, of, 2, expire_after_s=0.001)
        return batch_id, pulled(tx, gang_of(tx, of, batch_id))

    batch_id, lease = desk.database.transact(begin)
    looked(desk)
    assert desk.database.transact(lambda tx: make.beat(tx, lease)) == "continue"
    assert desk.database.transact(lambda tx: batches.cancel(tx, batch_id, "somebody asked"))
    looked(desk)
    assert desk.database.transact(lambda tx: make.beat(tx, lease)) == "cancel"
    desk.database.transact(lambda tx: make.finish(tx, lease, Outcome.CANCELED))
    looked(desk)
    assert row(desk, batch_id).state == "canceled"


def test_an_item_that_is_tried_again_twice_at_once_is_tried_once(desk: Desk) -> None:
    def begin(tx: Tx) -> str:
        of = pool(tx)
        batch_id = make.batch(tx, of, 2)
        end_items(tx, gang_of(tx, of, batch_id), FAILED)
        return batch_id

    batch_id = desk.database.transact(begin)

    def again(tx: Tx) -> int:
        return items.repeat(tx, batch_figures.lock_own(tx, "default", batch_id), custom_id="i-1")

    assert sorted(map(int, together([lambda: desk.database.transact(again)] * 4))) == [0, 0, 0, 1]  # type: ignore[arg-type]


def test_of_a_resume_and_a_delete_at_once_one_happens(desk: Desk) -> None:
    def over(tx: Tx) -> str:
        batch_id = make.batch(tx, pool(tx), 3)
        batches.cancel(tx, batch_id, "somebody asked")
        return batch_id

    def resume(batch_id: str) -> str:
        def work(tx: Tx) -> str:
            batch = batch_figures.lock_own(tx, "default", batch_id)
            batch_common.open_again(tx, batch)
            assert items.repeat(tx, batch) == 3
            return "resumed"

        return desk.database.transact(work)

    for _ in range(6):
        batch_id = desk.database.transact(over)
        looked(desk)
        got = together(
            [
                lambda b=batch_id: resume(b),  # type: ignore[misc]
                lambda b=batch_id: desk.database.transact(lambda tx: batch_retention.purge(tx, "default", b)),  # type: ignore[misc]
            ]
        )
        assert len([one for one in got if isinstance(one, Exception)]) == 1, got


def test_results_of_a_batch_that_is_deleted_meanwhile_break_off(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of them must not pass for the whole."""
    monkeypatch.setattr(batch_items, "LINES_AT_ONCE", 2)

    def begin(tx: Tx) -> str:
        batch_id = make.batch(tx, pool(tx), 5)
        batches.cancel(tx, batch_id, "somebody asked")
        return batch_id

    batch_id = database.transact(begin)
    line = batch_views.result_line
    gone: list[str] = []

    def told(item: Record) -> bytes:
        """Of the second page the first line is being written when somebody deletes the batch."""
        if item.line == 3 and not gone:
            database.transact(lambda tx: batch_retention.purge(tx, "default", batch_id))
            gone.append(batch_id)
        return line(item)

    monkeypatch.setattr(batch_views, "result_line", told)
    with replica(database, tmp_path) as here:
        looked(
            Desk(
                database=database,
                places=Places(ScriptedBackend()),
                settings=here.office.settings,
                wake=here.office.wake,
            )
        )
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            here.caller(tenant="default").get(f"/v1/batches/{batch_id}/results.jsonl")
    assert gone


def test_a_deleted_batch_leaves_nothing_of_what_its_items_did(desk: Desk) -> None:
    def begin(tx: Tx) -> tuple[str, str]:
        of = pool(tx)
        batch_id = make.batch(tx, of, 1)
        lease = pulled(tx, gang_of(tx, of, batch_id))
        trail = text('UPDATE attempt SET trail = \'{"phases": [["a phase of theirs", 0.1]]}\' WHERE id = :a')
        tx.execute(trail, {"a": lease.attempt})
        make.finish(tx, lease)
        return batch_id, lease.attempt

    batch_id, attempt = desk.database.transact(begin)
    looked(desk)
    desk.database.transact(lambda tx: batch_retention.purge(tx, "default", batch_id))
    kept = "SELECT count(*) FROM attempt WHERE id = :a AND (trail IS NOT NULL OR reason IS NOT NULL)"
    assert desk.database.transact(lambda tx: make.count(tx, kept, a=attempt)) == 0


def test_a_claim_that_waits_for_nobody_still_finds_the_batch_paused(database: Database) -> None:
    def begin(tx: Tx) -> tuple[str, Gang]:
        of = pool(tx)
        batch_id = make.batch(tx, of, 2)
        return batch_id, gang_of(tx, of, batch_id)

    batch_id, gang = database.transact(begin)
    database.transact(lambda tx: batches.pause(tx, batch_id, BatchReason.ASKED, "somebody asked"))
    with database._engine.begin() as holding:
        holding.execute(text("SELECT FROM batch WHERE id = :b FOR UPDATE"), {"b": batch_id})
        try:
            assert database.transact(lambda tx: make.pull(tx, gang)) is None
        except OperationalError:
            pytest.fail("the claim waited for the batch's row")
