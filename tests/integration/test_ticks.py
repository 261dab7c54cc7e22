"""The loop of schedules: every tick has one run or a recorded skip, by the rules of docs/schedules.md."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import builders as make
import pytest
from races import behind, together
from scheduled import BEGIN, House, moment
from sqlalchemy import text

from orchestrator.domain.schedules import Policy
from orchestrator.errors import Unavailable
from orchestrator.loops import ticks
from orchestrator.store import fires, purging, requests, schedules, templates
from orchestrator.store.database import Database, Tx


@pytest.fixture
def house(database: Database, tmp_path: Path) -> Iterator[House]:
    house = House(database, tmp_path)
    yield house
    house.retire()


def test_a_tick_runs_once_and_only_when_it_is_due(house: House) -> None:
    nightly = house.make()
    assert not house.at(moment("21T01:59"))
    assert house.at(moment("21T02:00")).did["ran"]
    assert not house.at(timedelta(seconds=1))
    assert house.told(nightly) == [("21T02:00", "ran")]
    (fire,) = house.fires(nightly)
    row = house.database.transact(lambda tx: make.request_row(tx, fire.request_id))
    assert (row.state, row.template) == ("queued", house.template)


def test_a_batch_is_run_as_well(house: House) -> None:
    nightly = house.make(batch=True)
    house.at(moment("21T02:00"))
    (fire,) = house.fires(nightly)
    row = house.database.transact(lambda tx: make.batch_row(tx, fire.batch_id))
    assert (row.state, row.source) == ("validating", "file:///nowhere/lines.jsonl")


def test_values_of_the_tick_arrive_as_plain_values(house: House) -> None:
    put = {"/input/date": "scheduled_date", "/input/at": "scheduled_unix", "/labels/of~1night": "scheduled_local"}
    nightly = house.make(timezone="Asia/Kathmandu", inject=put)
    house.at(moment("21T20:15"))
    fire = house.fires(nightly)[-1]
    query = text("SELECT input, labels FROM payload WHERE request_id = :id")
    row = house.database.transact(lambda tx: tx.execute(query, {"id": fire.request_id}).one())
    assert row.input == {"date": "2026-11-22", "at": int(moment("21T20:15").timestamp())}
    assert row.labels["of/night"] == "2026-11-22T02:00:00+05:45"
    assert row.labels["muster/scheduled_at"] == "2026-11-21T20:15:00Z"


# ------------------------------------------------------------------------------------------------------------- overlap


def test_with_skip_a_tick_is_skipped_while_an_earlier_run_is_open(house: House) -> None:
    hourly = house.make("0 * * * *")
    house.at(moment("20T13:00"))
    house.at(moment("20T14:00"))
    house.end_runs()
    house.at(moment("20T15:00"))
    assert house.told(hourly) == [("20T13:00", "ran"), ("20T14:00", "overlap"), ("20T15:00", "ran")]
    assert house.fires(hourly)[0].request_id in house.fires(hourly)[1].reason


def test_with_allow_runs_overlap(house: House) -> None:
    hourly = house.make("0 * * * *", overlap="allow")
    house.at(moment("20T13:00"))
    house.at(moment("20T14:00"))
    assert [state for _, state in house.told(hourly)] == ["ran", "ran"]


def test_with_queue_ticks_run_one_after_another_in_their_order(house: House) -> None:
    hourly = house.make("0 * * * *", overlap="queue", max_queued=2, grace_s=60)
    for hour in (13, 14, 15, 16):
        house.at(moment(f"20T{hour}:00"))
    assert [state for _, state in house.told(hourly)] == ["ran", "waiting", "waiting", "queue_full"]
    for _ in range(2):
        house.end_runs()
        house.at(timedelta(minutes=10))
    assert [state for _, state in house.told(hourly)] == ["ran", "ran", "ran", "queue_full"]


def test_with_replace_the_earlier_run_is_canceled(house: House) -> None:
    hourly = house.make("0 * * * *", overlap="replace")
    house.at(moment("20T13:00"))
    house.at(moment("20T14:00"))
    first, second = house.fires(hourly)
    states = [
        house.database.transact(lambda tx, f=f: make.request_row(tx, f.request_id)).state for f in (first, second)
    ]
    assert states == ["canceled", "queued"]


# ------------------------------------------------------------------------------------------------------------- misfires


def test_a_tick_within_its_grace_runs_late(house: House) -> None:
    nightly = house.make(misfire="skip", grace_s=3600)
    house.at(moment("21T03:00"))
    assert house.told(nightly) == [("21T02:00", "ran")]


@pytest.mark.parametrize(
    ("policy", "states"),
    [
        ({"misfire": "skip"}, ["misfire"] * 4),
        ({"misfire": "run_once"}, ["misfire"] * 3 + ["ran"]),
        ({"misfire": "catch_up", "max_catch_up": 2}, ["misfire"] * 2 + ["ran"] * 2),
    ],
)
def test_after_an_outage_the_misfire_policy_says_what_runs(house: House, policy: dict, states: list[str]) -> None:
    nightly = house.make(overlap="allow", **policy)
    house.at(moment("24T12:00"))
    assert [state for _, state in house.told(nightly)] == states


def test_run_once_runs_nothing_old_where_a_tick_is_due_in_time(house: House) -> None:
    nightly = house.make(overlap="allow")
    house.at(moment("24T02:10"))
    assert [state for _, state in house.told(nightly)] == ["misfire"] * 3 + ["ran"]
    assert house.fires(nightly)[-1].tick == moment("24T02:00")


def test_what_waited_before_a_pause_is_the_newest_that_was_missed_whatever_the_pause_skipped(house: House) -> None:
    room = "UPDATE tenant SET max_open = {} WHERE id = 'default'"
    house.database.transact(lambda tx: tx.execute(text(room.format(0))))
    hourly = house.make("0 * * * *", grace_s=600)
    house.at(moment("20T13:00"))
    house.turn(hourly, on=False)
    house.at(moment("20T15:00"))
    house.database.transact(lambda tx: tx.execute(text(room.format("NULL"))))
    house.now = moment("20T15:30")
    house.turn(hourly, on=True)
    house.at(moment("20T15:31"))
    assert house.told(hourly) == [("20T13:00", "ran"), ("20T14:00", "paused"), ("20T15:00", "paused")]


def test_a_schedule_with_much_to_make_up_for_holds_up_no_other_one(house: House) -> None:
    behind_by_much = house.make("* * * * *", overlap="allow")
    nightly = house.make("10 12 * * *")
    house.at(moment("20T12:20"))
    (ours,) = [fire.request_id for fire in house.fires(nightly)]
    rows = {
        fire.request_id: house.database.transact(lambda tx, f=fire: make.request_row(tx, f.request_id))
        for fire in [*house.fires(behind_by_much), *house.fires(nightly)]
    }
    assert len(rows) == 21 and sorted(rows, key=lambda key: rows[key].created_at).index(ours) <= 1


def test_a_run_that_was_deleted_meanwhile_needs_no_cancel(house: House) -> None:
    def work(tx: Tx) -> object:
        one = make.queued(tx, make.pool(tx))
        requests.cancel(tx, "default", one)
        purging.purge(tx, "default", one)
        return fires.cancel_run(tx, "default", one, "replaced")

    assert house.database.transact(work) is None


def test_years_of_missed_minutes_are_written_down_in_pieces(house: House) -> None:
    minutely = house.make("* * * * *")
    house.at(timedelta(days=3))
    told = [state for _, state in house.told(minutely)]
    assert len(told) == 3 * 1440 and told.count("ran") == 1
    assert set(told[:-61]) == {"misfire"}


# ------------------------------------------------------------------------------------ pauses, edits, start, end, jitter


def test_ticks_of_a_paused_schedule_are_skipped_with_that_reason(house: House) -> None:
    hourly = house.make("0 * * * *", overlap="allow")
    house.at(moment("20T13:00"))
    house.turn(hourly, on=False)
    house.at(moment("20T14:00"))
    house.now = moment("20T15:30")
    house.turn(hourly, on=True)
    house.at(moment("20T16:00"))
    assert [state for _, state in house.told(hourly)] == ["ran", "paused", "paused", "ran"]


def test_a_tick_uses_the_version_that_it_was_created_from(house: House) -> None:
    nightly = house.make(jitter_s=3600)
    house.now = moment("21T02:00")
    house.change(nightly, cron="0 5 * * *", inject={"/input/date": "scheduled_date"})
    house.at(moment("21T05:00"))
    house.end_runs()
    house.at(moment("21T06:00"))
    first, second = house.fires(nightly)
    assert [(one.tick, one.version, one.state) for one in (first, second)] == [
        (moment("21T02:00"), 1, "ran"),
        (moment("21T05:00"), 2, "ran"),
    ]
    query = text("SELECT input FROM payload WHERE request_id = :id")
    inputs = [
        house.database.transact(lambda tx, f=f: tx.execute(query, {"id": f.request_id}).scalar_one())
        for f in (first, second)
    ]
    assert inputs == [{}, {"date": "2026-11-21"}]


def test_an_edit_at_the_moment_of_a_tick_waits_for_it_and_doubles_nothing(house: House) -> None:
    nightly = house.make()
    house.now = moment("21T02:00")

    def looked(tx: Tx) -> None:
        ticks._look(tx, nightly, house.start, house.clock)

    with behind(house.database, looked, lambda: house.change(nightly, cron="0 2 * * 6")) as edit:
        pass
    edit.result(timeout=20)
    house.at(timedelta(seconds=1))
    assert house.told(nightly) == [("21T02:00", "ran")]


def test_nothing_fires_before_the_start_or_after_the_end(house: House) -> None:
    some = house.make("0 * * * *", overlap="allow", start_at="2026-11-20T14:00:00Z", end_at="2026-11-20T15:30:00Z")
    for hour in (13, 14, 15, 16):
        house.at(moment(f"20T{hour}:00"))
    assert house.told(some) == [("20T14:00", "ran"), ("20T15:00", "ran")]
    row = house.database.transact(lambda tx: schedules.get(tx, "default", some))
    assert row.ended_at is not None and row.next_check_at is None


def test_jitter_is_the_same_for_everybody_and_within_its_bound() -> None:
    policy = Policy.model_validate({"cron": "0 * * * *", "jitter_s": 300})
    hours = policy.next(BEGIN, 200)
    late = [(policy.due("sch_1", tick) - tick).total_seconds() for tick in hours]
    assert late == [(policy.due("sch_1", tick) - tick).total_seconds() for tick in hours]
    assert min(late) >= 0 and max(late) <= 300 and len(set(late)) > 50


def test_a_tick_with_jitter_waits_for_its_moment(house: House) -> None:
    nightly = house.make(jitter_s=3600)
    due = Policy.model_validate({"cron": "0 2 * * *", "jitter_s": 3600}).due(nightly, moment("21T02:00"))
    house.at(due - timedelta(seconds=1))
    assert [state for _, state in house.told(nightly)] == ["waiting"]
    house.at(due)
    assert [state for _, state in house.told(nightly)] == ["ran"]


# ----------------------------------------------------------------------------------------------- refusals, rivals, loss


def test_a_run_that_is_refused_is_a_skip_that_says_why(house: House) -> None:
    nightly = house.make()
    house.database.transact(lambda tx: templates.delete(tx, "default", house.template))
    house.at(moment("21T02:00"))
    (fire,) = house.fires(nightly)
    assert fire.reason_code == "refused" and fire.reason.startswith("unknown_template")


def test_without_room_a_tick_waits_until_its_grace_is_over(house: House) -> None:
    house.database.transact(lambda tx: tx.execute(text("UPDATE tenant SET max_open = 0 WHERE id = 'default'")))
    nightly = house.make(grace_s=600)
    house.at(moment("21T02:00"))
    assert [state for _, state in house.told(nightly)] == ["waiting"]
    house.at(moment("21T02:09"))
    house.database.transact(lambda tx: tx.execute(text("UPDATE tenant SET max_open = NULL WHERE id = 'default'")))
    house.at(moment("21T02:10"))
    assert [state for _, state in house.told(nightly)] == ["ran"]


def test_one_broken_schedule_leaves_the_others_alone(house: House) -> None:
    broken, good = house.make(), house.make()
    spoil = (
        "UPDATE schedule_version SET policy = jsonb_set(policy, '{timezone}', '\"Mars/Base\"') WHERE schedule_id = :id"
    )
    house.database.transact(lambda tx: tx.execute(text(spoil), {"id": broken}))
    house.at(moment("21T02:00"))
    assert house.told(good) == [("21T02:00", "ran")] and not house.fires(broken)
    house.database.transact(lambda tx: schedules.delete(tx, schedules.get(tx, "default", broken)))


def test_of_two_replicas_one_runs_a_tick(house: House, tmp_path: Path) -> None:
    every = [house.make(overlap="allow") for _ in range(5)]
    rivals = [House(house.database, tmp_path) for _ in range(3)]
    together([lambda one=one: one.at(moment("21T02:00")) for one in rivals])
    for one in rivals:
        one.at(timedelta(seconds=1))
    assert all(house.told(schedule) == [("21T02:00", "ran")] for schedule in every)
    assert house.database.transact(lambda tx: make.count(tx, "SELECT count(*) FROM request")) == 5


def test_a_replica_that_dies_between_the_run_and_the_commit_leaves_neither(house: House) -> None:
    nightly = house.make()
    house.now = moment("21T02:00")

    def dies(tx: Tx) -> None:
        ticks._look(tx, nightly, house.start, house.clock)
        raise Unavailable("killed")

    with pytest.raises(Unavailable):
        house.database.transact(dies)
    assert not house.fires(nightly)
    house.at(timedelta(seconds=1))
    assert house.told(nightly) == [("21T02:00", "ran")]
    assert house.database.transact(lambda tx: make.count(tx, "SELECT count(*) FROM request")) == 1


def test_ticks_of_long_ago_are_forgotten_and_promises_still_hold(house: House) -> None:
    house.make("0 0 * * *", overlap="allow")
    house.at(timedelta(days=1))
    house.end_runs()
    house.at(timedelta(days=120))
    gone = house.database.transact(lambda tx: fires.prune(tx, house.now))
    assert gone == 1, "all others were decided a moment ago"
