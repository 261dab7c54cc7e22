"""Items of a batch: pulled one at a time, tried again elsewhere, ended in bulk, run anew; counts and promises hold."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import builders as make
import pytest
from builders import Gang
from races import together
from scripted_backend import ScriptedBackend
from sqlalchemy import text

from orchestrator.backends.places import Places
from orchestrator.domain.batches import Counts
from orchestrator.domain.states import BatchState, Outcome, Reason
from orchestrator.loops import batches as batch_loop
from orchestrator.loops import plan, schedule
from orchestrator.loops.desk import Desk
from orchestrator.settings import Settings
from orchestrator.store import batch_figures, batches, gangs, items, requests
from orchestrator.store.database import Database, Record, Tx


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    settings = Settings(folder=tmp_path, api_urls=("http://here:1",))
    return Desk(database=database, places=Places(ScriptedBackend()), settings=settings, wake=lambda **_: None)


def looked(desk: Desk) -> dict[str, list[str]]:
    """One pass of the loop; no batch names its source here."""
    desk.database.transact(
        lambda tx: tx.execute(text("UPDATE batch SET next_check_at = now() WHERE finished_at IS NULL"))
    )
    return batch_loop.run_once(desk).did


def pool(tx: Tx, **batch: Any) -> Record:
    return make.pool(tx, batch={"max_gangs": 4, **batch})


def gang_of(tx: Tx, of: Record, batch_id: str) -> Gang:
    return make.ready(tx, of, batch_id=batch_id)


def state(tx: Tx, batch_id: str) -> str:
    return str(make.batch_row(tx, batch_id).state)


def counts(**some: int) -> Counts:
    none = dict.fromkeys(("items", "leased", "succeeded", "failed", "canceled", "expired"), 0)
    return Counts(**(none | some))


# ------------------------------------------------------------------------------------------------------------- pulling


def test_gangs_of_a_batch_pull_its_items_in_order_until_none_is_left(tx: Tx) -> None:
    of = pool(tx)
    batch_id = make.batch(tx, of, 3)
    first, second = gang_of(tx, of, batch_id), gang_of(tx, of, batch_id)
    leases = [make.pull(tx, first), make.pull(tx, second)]
    assert [lease and make.request_row(tx, lease.request).line for lease in leases] == [1, 2]
    assert make.pull(tx, first) is None and make.counts(tx, batch_id) == counts(items=3, leased=2)
    for lease in leases:
        assert lease is not None
        make.finish(tx, lease)
    last = make.pull(tx, first)
    assert last is not None and make.request_row(tx, last.request).line == 3
    assert make.pull(tx, second) is None
    assert not items.any_left(tx, batch_id)
    assert make.counts(tx, batch_id) == counts(items=3, leased=1, succeeded=2)


def test_the_first_item_on_a_gang_starts_the_batch(tx: Tx) -> None:
    of = pool(tx)
    batch_id = make.batch(tx, of)
    make.pull(tx, gang_of(tx, of, batch_id))
    row = make.batch_row(tx, batch_id)
    assert row.state == "running" and row.started_at is not None


@pytest.mark.parametrize("stopped", ["paused", "finalizing"])
def test_no_item_starts_in_a_batch_that_is_not_served(tx: Tx, stopped: str) -> None:
    of = pool(tx)
    batch_id = make.batch(tx, of)
    gang = gang_of(tx, of, batch_id)
    ending = "'canceled'" if stopped == "finalizing" else "NULL"
    with tx.begin_nested() as before:
        tx.execute(text(f"UPDATE batch SET state = '{stopped}', ending = {ending} WHERE id = :b"), {"b": batch_id})
        assert make.pull(tx, gang) is None and not items.any_left(tx, batch_id)
        before.rollback()
    assert make.pull(tx, gang) is not None


def test_a_lost_gang_costs_the_item_in_flight_which_another_one_takes(tx: Tx) -> None:
    of = pool(tx)
    batch_id = make.batch(tx, of, 2)
    lost, other = gang_of(tx, of, batch_id), gang_of(tx, of, batch_id)
    lease = make.pull(tx, lost)
    assert lease is not None
    gangs.end(tx, lost.id, Reason.GANG_LOST, "its node is gone")
    again = make.pull(tx, other)
    assert again is not None and again.request == lease.request
    row = make.request_row(tx, lease.request)
    assert (row.attempts, row.crashes) == (2, 0)


def test_an_item_in_backoff_keeps_its_gang(tx: Tx) -> None:
    of = pool(tx)
    batch_id = make.batch(tx, of, 1)
    gang = gang_of(tx, of, batch_id)
    tx.execute(
        text("UPDATE request SET run_at = clock_timestamp() + interval '1 hour' WHERE batch_id = :b"), {"b": batch_id}
    )
    assert make.pull(tx, gang) is None
    assert items.any_left(tx, batch_id) and gang.id not in items.gangs_without_work(tx)


def test_an_item_never_goes_to_a_gang_of_another_batch_or_of_one_request(tx: Tx) -> None:
    of = pool(tx)
    make.batch(tx, of, 3)
    other = make.batch(tx, of, 1)
    alone = make.queued(tx, of, placement="batch")
    lease = make.pull(tx, gang_of(tx, of, other))
    assert lease is not None and make.request_row(tx, lease.request).batch_id == other
    lease = make.pull(tx, make.ready(tx, of, request_id=alone))
    assert lease is not None and lease.request == alone


def test_gangs_that_pull_at_once_get_an_item_each_and_none_twice(database: Database) -> None:
    def begin(tx: Tx) -> tuple[str, list[Gang]]:
        of = pool(tx)
        batch_id = make.batch(tx, of, 40, max_parallel=8)
        return batch_id, [gang_of(tx, of, batch_id) for _ in range(8)]

    batch_id, ready = database.transact(begin)

    def live(gang: Gang) -> list[str]:
        taken = []
        while (lease := database.transact(lambda tx: make.pull(tx, gang))) is not None:
            database.transact(lambda tx, one=lease: make.finish(tx, one))  # type: ignore[misc]
            taken.append(lease.request)
        return taken

    each = together([lambda gang=gang: live(gang) for gang in ready])  # type: ignore[misc]
    taken = [request for one in each for request in one]
    assert len(taken) == len(set(taken)) == 40
    assert database.transact(lambda tx: make.counts(tx, batch_id)) == counts(items=40, succeeded=40)


# ---------------------------------------------------------------------------------------------------- gangs for a batch


def test_a_batch_gets_as_many_gangs_as_it_may_and_has_items_for(desk: Desk) -> None:
    def begin(tx: Tx) -> tuple[str, str]:
        of = pool(tx, max_gangs=9)
        return make.batch(tx, of, 50, max_parallel=3), make.batch(tx, of, 2, max_parallel=8)

    large, small = desk.database.transact(begin)
    assert len(plan.run_once(desk).did["planned"]) == 5
    assert "planned" not in plan.run_once(desk).did

    def gangs_of(tx: Tx, batch_id: str) -> int:
        return make.count(tx, "SELECT count(*) FROM gang WHERE batch_id = :b AND mode = 'batch'", b=batch_id)

    assert desk.database.transact(lambda tx: (gangs_of(tx, large), gangs_of(tx, small))) == (3, 2)


def test_the_template_bounds_the_gangs_of_all_batches_and_requests_together(desk: Desk) -> None:
    def begin(tx: Tx) -> None:
        of = pool(tx, max_gangs=3)
        make.batch(tx, of, 50, max_parallel=8)
        make.batch(tx, of, 50, max_parallel=8)
        make.queued(tx, of, placement="batch")

    desk.database.transact(begin)
    plan.run_once(desk)
    shares = "SELECT count(DISTINCT coalesce(batch_id, request_id)) FROM gang"
    assert desk.database.transact(lambda tx: (make.count(tx, "SELECT count(*) FROM gang"), make.count(tx, shares))) == (
        3,
        3,
    )


def test_gangs_for_which_nothing_is_left_are_let_go_even_while_they_start(desk: Desk) -> None:
    def begin(tx: Tx) -> tuple[Gang, Gang]:
        of = pool(tx)
        batch_id = make.batch(tx, of, 1)
        return gang_of(tx, of, batch_id), make.launching(tx, of, batch_id=batch_id)

    ready, starting = desk.database.transact(begin)
    lease = desk.database.transact(lambda tx: make.pull(tx, ready))
    assert lease is not None
    assert plan.run_once(desk).did["drained"] == [starting.id]
    desk.database.transact(lambda tx: make.finish(tx, lease))
    assert schedule.run_once(desk).did["drained"] == [ready.id]


def test_a_batch_fails_with_what_waits_of_it_when_no_gang_starts(desk: Desk) -> None:
    def begin(tx: Tx) -> str:
        of = pool(tx)
        batch_id = make.batch(tx, of, 2)
        for _ in range(3):
            gang = make.launching(tx, of, batch_id=batch_id)
            gangs.end(tx, gang.id, Reason.START_TIMEOUT, "no rank said hello")
        return batch_id

    batch_id = desk.database.transact(begin)
    plan.run_once(desk)
    looked(desk)
    looked(desk)
    row = desk.database.transact(lambda tx: make.batch_row(tx, batch_id))
    assert (row.state, row.outcome, row.reason_code) == ("failed", "none_succeeded", "no_gang")
    item = desk.database.transact(lambda tx: make.item(tx, batch_id, 2))
    assert (item.state, item.reason_code) == ("failed", "launch_failed") and "no rank said hello" in item.reason


# ----------------------------------------------------------------------------------------------------------- warm gangs


def test_warm_gangs_that_nobody_waits_for_run_items_where_the_template_allows(tx: Tx) -> None:
    of = pool(tx)
    gang = make.ready(tx, of)
    batch_id = make.batch(tx, of, 5, shared=True)
    assert list(make.assign(tx, of)) == [gang.id]
    assert make.request_row(tx, make.lease_of(tx, gang).request).batch_id == batch_id


def test_warm_gangs_leave_items_alone_where_it_does_not(tx: Tx) -> None:
    of = pool(tx)
    make.ready(tx, of)
    make.batch(tx, of, 5)
    assert list(make.assign(tx, of)) == []


def test_whoever_waits_for_a_warm_gang_goes_before_items(tx: Tx) -> None:
    of = pool(tx)
    gang = make.ready(tx, of)
    make.batch(tx, of, 5, shared=True, priority=1000)
    mine = make.queued(tx, of)
    assert list(make.assign(tx, of)) == [gang.id]
    assert make.lease_of(tx, gang).request == mine


def test_warm_and_own_gangs_together_are_no_more_than_may_be_parallel(tx: Tx) -> None:
    of = pool(tx)
    warm = [make.ready(tx, of) for _ in range(3)]
    batch_id = make.batch(tx, of, 9, shared=True, max_parallel=2)
    own = gang_of(tx, of, batch_id)
    assert make.pull(tx, own) is not None
    assert len(make.assign(tx, of)) == 1
    assert make.counts(tx, batch_id).leased == 2
    assert {gang.id for gang in warm} >= set(make.assign(tx, of)) == set()


# ---------------------------------------------------------------------------------------------------- ends of all kinds


def finished(desk: Desk, batch_id: str) -> Record:
    for _ in range(4):
        looked(desk)
    return desk.database.transact(lambda tx: make.batch_row(tx, batch_id))


def one_of_two(tx: Tx) -> str:
    """A batch of which one item succeeded and one failed; nobody has looked at it since."""
    of = pool(tx)
    batch_id = make.batch(tx, of, 2)
    gang = gang_of(tx, of, batch_id)
    for outcome in (Outcome.SUCCEEDED, Outcome.FAILED):
        lease = make.pull(tx, gang)
        assert lease is not None
        make.finish(tx, lease, outcome)
    return batch_id


def test_a_batch_whose_items_are_over_is_completed_and_says_how_they_ended(desk: Desk) -> None:
    batch_id = desk.database.transact(one_of_two)
    row = finished(desk, batch_id)
    assert (row.state, row.outcome) == ("completed", "partial")
    assert desk.database.transact(lambda tx: make.counts(tx, batch_id)) == counts(items=2, succeeded=1, failed=1)


def test_a_cancel_ends_what_waits_and_asks_what_runs(desk: Desk) -> None:
    def begin(tx: Tx) -> tuple[str, make.Lease]:
        of = pool(tx)
        batch_id = make.batch(tx, of, 5)
        lease = make.pull(tx, gang_of(tx, of, batch_id))
        assert lease is not None
        batches.end(tx, batch_id, BatchState.CANCELED, None, "somebody asked")
        return batch_id, lease

    batch_id, lease = desk.database.transact(begin)
    assert finished(desk, batch_id).state == "finalizing"
    assert desk.database.transact(lambda tx: make.counts(tx, batch_id)) == counts(items=5, leased=1, canceled=4)
    assert desk.database.transact(lambda tx: make.beat(tx, lease)) == "cancel"
    desk.database.transact(lambda tx: make.finish(tx, lease, Outcome.CANCELED))
    row = finished(desk, batch_id)
    assert (row.state, row.outcome) == ("canceled", "none_succeeded")


def test_a_deadline_expires_what_waits_and_lets_what_runs_end(desk: Desk) -> None:
    def begin(tx: Tx) -> tuple[str, make.Lease]:
        of = pool(tx)
        batch_id = make.batch(tx, of, 3, expire_after_s=0.001)
        lease = make.pull(tx, gang_of(tx, of, batch_id))
        assert lease is not None
        return batch_id, lease

    batch_id, lease = desk.database.transact(begin)
    finished(desk, batch_id)
    assert desk.database.transact(lambda tx: make.beat(tx, lease)) == "continue"
    desk.database.transact(lambda tx: make.finish(tx, lease))
    row = finished(desk, batch_id)
    assert (row.state, row.outcome) == ("expired", "partial")
    assert desk.database.transact(lambda tx: make.counts(tx, batch_id)) == counts(items=3, succeeded=1, expired=2)


def failing(desk: Desk, **changes: Any) -> str:
    """A batch of ten of which three failed."""

    def begin(tx: Tx) -> str:
        of = pool(tx)
        batch_id = make.batch(tx, of, 10, **changes)
        gang = gang_of(tx, of, batch_id)
        for _ in range(3):
            lease = make.pull(tx, gang)
            assert lease is not None
            make.finish(tx, lease, Outcome.FAILED)
        return batch_id

    return desk.database.transact(begin)


def test_too_many_failures_stop_a_batch(desk: Desk) -> None:
    batch_id = failing(desk, max_failed="20%")
    row = finished(desk, batch_id)
    assert (row.state, row.reason_code) == ("failed", "max_failed") and "3 items failed" in row.reason
    assert desk.database.transact(lambda tx: make.counts(tx, batch_id)) == counts(items=10, failed=3, canceled=7)


def test_too_many_failures_pause_a_batch_that_asked_for_it_and_count_anew_after_resume(desk: Desk) -> None:
    batch_id = failing(desk, max_failed="2", on_max_failed="pause")
    assert finished(desk, batch_id).state == "paused"
    desk.database.transact(lambda tx: batches.resume(tx, batch_id, 3))
    assert finished(desk, batch_id).state == "queued"


def test_an_item_that_is_lost_while_its_batch_ends_is_not_tried_again(desk: Desk) -> None:
    def begin(tx: Tx) -> str:
        of = pool(tx)
        batch_id = make.batch(tx, of, 1)
        gang = gang_of(tx, of, batch_id)
        assert make.pull(tx, gang) is not None
        batches.end(tx, batch_id, BatchState.EXPIRED, None, "too late")
        gangs.end(tx, gang.id, Reason.GANG_LOST, "its node is gone")
        return batch_id

    batch_id = desk.database.transact(begin)
    assert finished(desk, batch_id).state == "expired"


def test_one_item_may_be_canceled_by_itself(desk: Desk) -> None:
    def begin(tx: Tx) -> str:
        batch_id = make.batch(tx, pool(tx), 2)
        requests.cancel(tx, "default", make.item(tx, batch_id, 1).id)
        return batch_id

    batch_id = desk.database.transact(begin)
    assert desk.database.transact(lambda tx: make.counts(tx, batch_id)) == counts(items=2, canceled=1)


# ------------------------------------------------------------------------------------------------------------ once more


def test_what_did_not_succeed_runs_again_as_new_requests_and_the_rest_stays(desk: Desk) -> None:
    def begin(tx: Tx) -> str:
        of = pool(tx)
        batch_id = make.batch(tx, of, 4)
        lease = make.pull(tx, gang_of(tx, of, batch_id))
        assert lease is not None
        make.finish(tx, lease)
        batches.end(tx, batch_id, BatchState.CANCELED, None, "somebody asked")
        return batch_id

    batch_id = desk.database.transact(begin)
    assert finished(desk, batch_id).state == "canceled"
    before = desk.database.transact(lambda tx: [make.item(tx, batch_id, line) for line in range(1, 5)])

    def again(tx: Tx) -> int:
        assert batches.reopen(tx, batch_id, 0)
        return items.repeat(tx, make.batch_row(tx, batch_id), limit=2)

    assert desk.database.transact(again) == 3
    after = desk.database.transact(lambda tx: [make.item(tx, batch_id, line) for line in range(1, 5)])
    assert after[0] == before[0]
    assert [item.retry_of for item in after[1:]] == [item.id for item in before[1:]]
    assert [(item.custom_id, item.state) for item in after[1:]] == [(f"i-{n}", "queued") for n in (2, 3, 4)]
    assert desk.database.transact(lambda tx: make.counts(tx, batch_id)) == counts(items=4, succeeded=1)
    payload = "SELECT count(*) FROM payload WHERE request_id = :r AND input ->> 'text' = 'item 3'"
    assert desk.database.transact(lambda tx: make.count(tx, payload, r=after[2].id)) == 1


def test_folding_a_tally_changes_no_count(tx: Tx) -> None:
    of = pool(tx)
    batch_id = make.batch(tx, of, 90)
    gang = gang_of(tx, of, batch_id)
    for n in range(90):
        lease = make.pull(tx, gang)
        assert lease is not None
        make.finish(tx, lease, Outcome.FAILED if n % 9 == 0 else Outcome.SUCCEEDED)
    before = batch_figures.get(tx, "default", batch_id).progress
    batch_figures.fold_tally(tx, batch_id)
    after = batch_figures.get(tx, "default", batch_id).progress
    rows = make.count(tx, "SELECT count(*) FROM batch_tally WHERE batch_id = :b", b=batch_id)
    assert rows < 20 and after.counts == before.counts == counts(items=90, succeeded=80, failed=10)
    assert after.gpu_seconds == pytest.approx(before.gpu_seconds) and after.recent == before.recent == 90


def test_a_batch_has_a_clock_and_its_items_need_none(tx: Tx) -> None:
    batch_id = make.batch(tx, pool(tx), 1)
    batches.wind(tx, batch_id, timedelta(seconds=30))
    due = "SELECT count(*) FROM request WHERE batch_id = :b AND next_check_at < clock_timestamp() + interval '1 year'"
    assert make.count(tx, due, b=batch_id) == 0 and batch_id not in batches.due(tx)


def test_a_tally_that_an_older_replica_did_not_keep_is_made_anew(desk: Desk) -> None:
    """It ends items without it while versions run side by side."""

    def begin(tx: Tx) -> str:
        batch_id = one_of_two(tx)
        tx.execute(text("DELETE FROM batch_tally WHERE batch_id = :b AND state = 'failed'"), {"b": batch_id})
        return batch_id

    batch_id = desk.database.transact(begin)
    assert finished(desk, batch_id).state == "completed"
    assert desk.database.transact(lambda tx: make.counts(tx, batch_id)) == counts(items=2, succeeded=1, failed=1)
