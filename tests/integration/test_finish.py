"""The end of an attempt: fenced, idempotent, final; and what a lost one costs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import builders as make
import pytest
from builders import START, Lease
from races import behind, together
from sqlalchemy import text

from orchestrator.domain.states import TERMINAL, Outcome, Reason, RequestState
from orchestrator.errors import Conflict, StaleLease
from orchestrator.store import attempts, gangs, incarnations, members, pulses, requests
from orchestrator.store.attempts import Finish
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.pulses import Pulsed

RACES = 100


def seen(tx: Tx, request_id: str) -> tuple[Record, list[Record], list[Record]]:
    rows = tx.execute(text("SELECT * FROM attempt WHERE request_id = :r ORDER BY number"), {"r": request_id})
    return make.request_row(tx, request_id), make.events_of(tx, request_id), list(rows)


# ------------------------------------------------------------------------------------------------------- the result


def test_a_result_is_recorded_once_with_its_usage_and_outputs(tx: Tx) -> None:
    pool = make.pool(tx, nodes=2, ranks_per_node=2, gpus_per_rank=0.5)
    lease = make.running(tx, pool)
    file = {"name": "a.gif", "media_type": "image/gif", "bytes": 3, "sha256": "0" * 64, "uri": "file:///a.gif"}
    done = make.finish(tx, lease, outputs=[file], metrics={"psnr": 30.5})
    assert (done.request, done.state, done.replayed) == (lease.request, RequestState.SUCCEEDED, False)
    row = requests.get(tx, "default", lease.request)
    assert row.value == {"answer": 42} and row.metrics == {"psnr": 30.5}
    assert row.run_s == 1.5 and row.gpu_seconds == pytest.approx(1.5 * 4 * 0.5)
    assert [output["name"] for output in row.outputs] == ["a.gif"]
    assert row.gang_id is None and row.started_at is not None


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED])
def test_the_same_bytes_again_are_a_replay(tx: Tx, outcome: Outcome) -> None:
    lease = make.running(tx, make.pool(tx))
    make.finish(tx, lease, outcome)
    before = seen(tx, lease.request)
    again = make.finish(tx, lease, outcome)
    assert again.replayed and again.state == make.request_row(tx, lease.request).state
    assert seen(tx, lease.request) == before


def test_other_bytes_after_the_first_are_refused(tx: Tx) -> None:
    lease = make.running(tx, make.pool(tx))
    make.finish(tx, lease)
    before = seen(tx, lease.request)
    with pytest.raises(Conflict) as refused:
        make.finish(tx, lease, digest=b"other bytes", value={"answer": 43})
    assert refused.value.code == "result_exists" and not isinstance(refused.value, StaleLease)
    assert seen(tx, lease.request) == before


def test_a_report_whose_answer_was_lost_may_come_twice_at_once(database: Database) -> None:
    lease = database.transact(lambda tx: make.running(tx, make.pool(tx)))
    with behind(
        database,
        first=lambda tx: make.finish(tx, lease),
        second=lambda: database.transact(lambda tx: make.finish(tx, lease)),
    ) as second:
        pass
    assert second.result().replayed


def test_a_short_request_may_end_without_a_beat(tx: Tx) -> None:
    lease = make.leased(tx, make.pool(tx))
    make.finish(tx, lease)
    row = make.request_row(tx, lease.request)
    assert row.state == "succeeded" and row.assigned_at <= row.started_at <= row.finished_at


# ---------------------------------------------------------------------------------------------------------- fences


def _wrong_token(tx: Tx, lease: Lease) -> tuple[str, bytes, str]:
    return lease.attempt, lease.gang.session_hash, "0" * 32


def _other_session(tx: Tx, lease: Lease) -> tuple[str, bytes, str]:
    return lease.attempt, b"another", lease.token


def _unknown_attempt(tx: Tx, lease: Lease) -> tuple[str, bytes, str]:
    return "att_" + "0" * 26, lease.gang.session_hash, lease.token


def _next_incarnation(tx: Tx, lease: Lease) -> tuple[str, bytes, str]:
    return lease.attempt, make.hello(tx, lease.gang).session_hash, lease.token


def _lease_over(tx: Tx, lease: Lease) -> tuple[str, bytes, str]:
    make.lose(tx, lease)
    return lease.attempt, lease.gang.session_hash, lease.token


def _gang_gone(tx: Tx, lease: Lease) -> tuple[str, bytes, str]:
    gangs.end(tx, lease.gang.id, Reason.LEASE_EXPIRED, "silent")
    return lease.attempt, lease.gang.session_hash, lease.token


@pytest.mark.parametrize(
    "stale", [_wrong_token, _other_session, _unknown_attempt, _next_incarnation, _lease_over, _gang_gone]
)
def test_whoever_does_not_hold_the_lease_changes_nothing(
    tx: Tx, stale: Callable[[Tx, Lease], tuple[str, bytes, str]]
) -> None:
    lease = make.running(tx, make.pool(tx))
    attempt, session, token = stale(tx, lease)
    before = seen(tx, lease.request)
    with pytest.raises(StaleLease) as refused:
        attempts.finish(tx, attempt, session, Finish(token=token, outcome=Outcome.SUCCEEDED, digest=b"d", run_s=1))
    assert refused.value.code == "stale_lease"
    assert seen(tx, lease.request) == before


def test_the_first_try_cannot_report_after_the_second_began(tx: Tx) -> None:
    pool = make.pool(tx)
    first = make.running(tx, pool)
    make.lose(tx, first)
    other = make.ready(tx, pool)
    assert list(make.assign(tx, pool)) in ([first.gang.id], [other.id])
    with pytest.raises(StaleLease):
        make.finish(tx, first)
    assert make.request_row(tx, first.request).state == "assigned"


def test_a_beat_for_a_lease_that_is_over_is_told_so_and_moves_nothing(tx: Tx) -> None:
    lease = make.running(tx, make.pool(tx))
    make.lose(tx, lease)
    before, current = seen(tx, lease.request), "SELECT current FROM progress WHERE request_id = :r"
    assert make.beat(tx, lease, 9) == "revoked"
    assert seen(tx, lease.request) == before and make.count(tx, current, r=lease.request) == 1


class Interrupted:
    """A transaction during whose statements something else happens: before the n-th one."""

    def __init__(self, tx: Tx, before: int, happens: Callable[[], object]) -> None:
        self._tx, self._left, self._happens = tx, before, happens

    def execute(self, *arguments: object) -> object:
        self._left -= 1
        if self._left == 0:
            self._happens()
        return self._tx.execute(*arguments)  # type: ignore[call-overload]


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_beat_while_its_attempt_ends_is_answered(database: Database, moment: int) -> None:
    lease = database.transact(lambda tx: make.running(tx, make.pool(tx)))

    def beat(tx: Tx) -> Pulsed:
        between = Interrupted(tx, moment, lambda: database.transact(lambda other: make.finish(other, lease)))
        return pulses.beat(between, lease.gang.id, 1, make.pulse(lease))  # type: ignore[arg-type]

    assert database.transact(beat).answer == "revoked"


# ----------------------------------------------------------------------------------------------- cancels and races


def test_what_a_gang_reports_after_a_cancel_does_not_count(tx: Tx) -> None:
    lease = make.running(tx, make.pool(tx))
    requests.cancel(tx, "default", lease.request)
    assert make.beat(tx, lease) == "cancel"
    assert make.finish(tx, lease).state is RequestState.CANCELED
    row = requests.get(tx, "default", lease.request)
    assert row.state == "canceled" and row.value is None
    assert make.finish(tx, lease).replayed


def test_a_cancel_of_what_never_ran_ends_when_the_gang_asks_for_work(tx: Tx) -> None:
    lease = make.leased(tx, make.pool(tx))
    requests.cancel(tx, "default", lease.request)
    _, duty = members.work(tx, lease.gang.id, lease.gang.session_hash)
    assert duty.leases == [] and make.request_row(tx, lease.request).state == "canceled"
    assert make.count(tx, f"SELECT count(*) FROM usage WHERE request_id = '{lease.request}' AND run_s = 0") == 1


def test_a_cancel_of_an_ended_request_is_refused(tx: Tx) -> None:
    lease = make.running(tx, make.pool(tx))
    make.finish(tx, lease)
    with pytest.raises(Conflict) as refused:
        requests.cancel(tx, "default", lease.request)
    assert refused.value.code == "already_terminal"


def _race(database: Database, rival: Callable[[Tx, Lease], object]) -> list[str]:
    """Many times: a report and a rival at the same moment; the states that came out."""
    pool = database.transact(make.pool)
    gang = database.transact(lambda tx: make.ready(tx, pool))
    ends = []
    for _ in range(RACES):

        def prepare(tx: Tx, gang: make.Gang = gang) -> Lease:
            request = make.queued(tx, pool)
            assert list(make.assign(tx, pool)) == [gang.id]
            lease = make.lease_of(tx, gang)
            assert lease.request == request and make.beat(tx, lease) == "continue"
            return lease

        lease = database.transact(prepare)
        answers = together(
            [
                lambda lease=lease: database.transact(lambda tx: make.finish(tx, lease)),  # type: ignore[misc]
                lambda lease=lease: database.transact(lambda tx: rival(tx, lease)),  # type: ignore[misc]
            ]
        )
        assert all(not isinstance(a, Exception) or isinstance(a, Conflict) for a in answers), answers
        row, _, tries = database.transact(lambda tx, lease=lease: seen(tx, lease.request))  # type: ignore[misc]
        assert len([one for one in tries if one.ended_at is None]) == 0 and row.gang_id is None
        ends.append(row.state)
        if row.state not in TERMINAL:
            database.transact(lambda tx, lease=lease: requests.cancel(tx, "default", lease.request))  # type: ignore[misc]
        gang = database.transact(lambda tx, gang=gang: _whole_again(tx, gang))  # type: ignore[misc]
    return ends


def _whole_again(tx: Tx, gang: make.Gang) -> make.Gang:
    if make.gang_row(tx, gang).incarnation == gang.incarnation:
        return gang
    born = make.hello(tx, gang)
    make.all_ranks_ready(tx, born)
    return born


def test_a_report_and_a_cancel_at_once_end_in_exactly_one_way(database: Database) -> None:
    ends = _race(database, lambda tx, lease: requests.cancel(tx, "default", lease.request))
    assert set(ends) <= {"succeeded", "canceled"}


def test_a_report_and_a_new_incarnation_at_once_end_in_exactly_one_way(database: Database) -> None:
    ends = _race(database, lambda tx, lease: make.hello(tx, lease.gang))
    assert set(ends) <= {"succeeded", "queued"}


# ---------------------------------------------------------------------------------------------------------- losses


def test_a_lost_attempt_is_tried_again_elsewhere_with_a_new_number_and_token(tx: Tx) -> None:
    pool = make.pool(tx)
    first = make.running(tx, pool)
    gangs.end(tx, first.gang.id, Reason.LEASE_EXPIRED, "no beat for 31 s")
    row, events, _ = seen(tx, first.request)
    assert (row.state, row.attempts, row.crashes, row.reason_code) == ("queued", 1, 1, "lease_expired")
    assert events[-1].move == "retry"
    second_gang = make.ready(tx, pool)
    assert list(make.assign(tx, pool)) == [second_gang.id]
    second = make.lease_of(tx, second_gang)
    assert second.request == first.request and second.token != first.token
    assert make.finish(tx, second).state is RequestState.SUCCEEDED


def test_the_pause_between_tries_grows(tx: Tx) -> None:
    pool = make.pool(tx)
    gang = make.ready(tx, pool)
    request_id = make.queued(tx, pool, max_crashes=100)
    pauses = []
    for _ in range(4):
        tx.execute(text("UPDATE request SET run_at = clock_timestamp() WHERE id = :r"), {"r": request_id})
        assert make.assign(tx, pool)
        make.lose(tx, make.lease_of(tx, gang))
        query = "SELECT extract(epoch FROM run_at - clock_timestamp()) FROM request WHERE id = :r"
        pauses.append(float(tx.execute(text(query), {"r": request_id}).scalar_one()))
    assert pauses == [pytest.approx(s, abs=0.4) for s in (0, 1, 2, 4)]


def test_tries_end_at_the_maximum_with_the_last_cause(tx: Tx) -> None:
    pool = make.pool(tx)
    lease = make.running(tx, pool, max_attempts=1)
    make.lose(tx, lease, Reason.GANG_LOST, "node n7 went away")
    row = requests.get(tx, "default", lease.request)
    assert (row.state, row.reason_code) == ("failed", "gang_lost")
    assert "node n7 went away" in row.error["message"] and row.error["retryable"] is True


def test_a_request_that_was_running_in_three_crashes_is_poisoned(tx: Tx) -> None:
    pool = make.pool(tx)
    request_id = make.queued(tx, pool)
    for _ in range(3):
        gang = make.ready(tx, pool)
        tx.execute(text("UPDATE request SET run_at = clock_timestamp() WHERE id = :r"), {"r": request_id})
        assert list(make.assign(tx, pool)) == [gang.id]
        make.beat(tx, make.lease_of(tx, gang))
        gangs.end(tx, gang.id, Reason.RANK_FAILED, "segmentation fault", rank=2, node="n2")
    row = requests.get(tx, "default", request_id)
    assert (row.state, row.reason_code, row.crashes) == ("failed", "poisoned", 3)
    assert row.error["rank"] == 2 and row.error["node"] == "n2" and row.error["retryable"] is False


def test_a_crash_before_the_first_beat_is_not_held_against_the_request(tx: Tx) -> None:
    lease = make.leased(tx, make.pool(tx))
    gangs.end(tx, lease.gang.id, Reason.GANG_LOST, "went away")
    row = make.request_row(tx, lease.request)
    assert (row.state, row.crashes) == ("queued", 0)


@pytest.mark.parametrize("reason", [Reason.DRAINED, Reason.STOPPED, Reason.IDLE, Reason.REPLACED])
def test_a_gang_that_is_taken_away_is_no_crash(tx: Tx, reason: Reason) -> None:
    lease = make.running(tx, make.pool(tx))
    gangs.end(tx, lease.gang.id, reason, "not needed")
    assert make.request_row(tx, lease.request).crashes == 0


@pytest.mark.parametrize(
    ("code", "healthy", "state", "crashes"),
    [
        ("handler_error", True, "failed", 0),
        ("oom", False, "failed", 0),
        ("upload_failed", True, "queued", 0),
        ("rank_failed", False, "queued", 1),
        ("no_such_code", True, "failed", 0),
    ],
)
def test_a_failure_is_final_or_tried_again_by_whose_fault_it_is(
    tx: Tx, code: str, healthy: bool, state: str, crashes: int
) -> None:
    lease = make.running(tx, make.pool(tx))
    error = {"code": code, "message": "why", "rank": 1, "node": "n1", "traceback": "line 1"}
    make.finish(tx, lease, Outcome.FAILED, error=error, healthy=healthy)
    row = make.request_row(tx, lease.request)
    assert (row.state, row.crashes) == (state, crashes)


def test_a_broken_incarnation_is_ended_for_good_after_a_few(tx: Tx) -> None:
    gang = make.ready(tx, make.pool(tx))
    states = []
    for _ in range(3):
        incarnations.break_incarnation(tx, gang.id, Reason.RANK_FAILED, "died", START, rank=0, node="n0")
        states.append(make.gang_row(tx, gang).state)
        if states[-1] == "launching":
            gang = make.hello(tx, gang)
    assert states == ["launching", "launching", "gone"]


def test_a_gang_that_never_starts_holds_its_pool_longer_each_time(tx: Tx) -> None:
    pool = make.pool(tx)
    holds = []
    for _ in range(3):
        gangs.end(tx, make.launching(tx, pool).id, Reason.START_TIMEOUT, "no hello")
        query = "SELECT failed_starts, held_until - clock_timestamp() AS held FROM pool WHERE id = :p"
        holds.append(tx.execute(text(query), {"p": pool.id}).one().held)
    assert [round(hold / timedelta(seconds=1)) for hold in holds] == [1, 2, 4]
    make.ready(tx, pool)
    row = tx.execute(text("SELECT failed_starts, held_until FROM pool WHERE id = :p"), {"p": pool.id}).one()
    assert row.failed_starts == 0 and row.held_until is None
