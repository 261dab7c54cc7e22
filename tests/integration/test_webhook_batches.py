"""What webhooks hear of batches and of ticks: once, by the statement of the move, and nothing of other tenants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import builders as make
import pytest
from receiver import Receiver
from scheduled import House as Clockwork
from scheduled import moment
from webhook_house import House

from orchestrator.domain.batches import Counts
from orchestrator.domain.states import BatchReason, BatchState
from orchestrator.errors import Conflict
from orchestrator.store import batches, items
from orchestrator.store.database import Database, Tx

BATCHES = ("batch.completed", "batch.failed", "batch.canceled", "batch.expired", "batch.paused")
TICKS = ("schedule.fired", "schedule.skipped")


@pytest.fixture
def clockwork(database: Database, tmp_path: Path) -> Iterator[Clockwork]:
    clockwork = Clockwork(database, tmp_path)
    yield clockwork
    clockwork.retire()


def _over(ending: BatchState, reason: BatchReason | None = None) -> Callable[[Tx, str], None]:
    def work(tx: Tx, batch_id: str) -> None:
        assert batches.start(tx, batch_id)
        assert batches.end(tx, batch_id, ending, reason, None)
        row = make.batch_row(tx, batch_id)
        items.end_queued(tx, row, "cancel", code=None, why="its batch ended", error=None, limit=10)
        counts = Counts(items=3, leased=0, succeeded=0, failed=0, canceled=3, expired=0)
        assert batches.close(tx, batch_id, ending, counts)

    return work


ENDS: dict[str, tuple[Callable[[Tx, str], object], dict[str, str]]] = {
    "completed": (_over(BatchState.COMPLETED), {"outcome": "none_succeeded"}),
    "canceled": (
        _over(BatchState.CANCELED, BatchReason.ASKED),
        {"outcome": "none_succeeded", "reason": "asked"},
    ),
    "expired": (_over(BatchState.EXPIRED, BatchReason.DEADLINE), {"outcome": "none_succeeded", "reason": "deadline"}),
    "failed": (_over(BatchState.FAILED, BatchReason.NO_GANG), {"outcome": "none_succeeded", "reason": "no_gang"}),
    "paused": (lambda tx, b: batches.pause(tx, b, BatchReason.MAX_FAILED, "2 failed"), {"reason": "max_failed"}),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_end_of_a_batch_is_told_once_with_its_outcome(sending: House, there: Receiver, name: str) -> None:
    _, secret = sending.endpoint(there.url, *BATCHES)
    act, more = ENDS[name]

    def work(tx: Tx) -> str:
        batch_id = make.batch(tx, make.pool(tx))
        act(tx, batch_id)
        return batch_id

    batch_id = sending.database.transact(work)
    assert sending.send()["delivered"] and not sending.send()
    (heard,) = there.heard
    version = sending.database.transact(lambda tx: make.batch_row(tx, batch_id)).version
    message = heard.verified(secret)
    assert message["type"] == f"batch.{name}"
    url = f"https://muster.example/v1/batches/{batch_id}"
    assert message["data"] == {"id": batch_id, "status": name, "version": version, "url": url, **more}


def test_a_batch_whose_lines_are_refused_is_told_as_failed(sending: House, there: Receiver) -> None:
    webhook, _ = sending.endpoint(there.url, *BATCHES)

    def work(tx: Tx) -> None:
        assert batches.refuse(tx, make.validating(tx, make.pool(tx)), BatchReason.REFUSED, "line 1 is none")

    sending.database.transact(work)
    assert [(d.type, d.more["reason"]) for d in sending.deliveries(webhook)] == [("batch.failed", "refused")]


def test_a_batch_that_is_opened_again_is_told_again_under_a_later_version(sending: House, there: Receiver) -> None:
    webhook, _ = sending.endpoint(there.url, *BATCHES)

    def work(tx: Tx) -> None:
        batch_id = make.batch(tx, make.pool(tx))
        ENDS["canceled"][0](tx, batch_id)
        assert batches.reopen(tx, batch_id, 0)
        ENDS["canceled"][0](tx, batch_id)

    sending.database.transact(work)
    told = sending.deliveries(webhook)
    assert [d.type for d in told] == ["batch.canceled"] * 2 and told[0].seq < told[1].seq


def test_a_batch_is_told_to_nobody_else_and_not_where_its_move_is_undone(sending: House, there: Receiver) -> None:
    foreign, _ = sending.endpoint(there.url, *BATCHES, tenant=sending.database.transact(make.tenant))
    own, _ = sending.endpoint(there.url, *BATCHES)
    picky, _ = sending.endpoint(there.url, "batch.failed")

    def work(tx: Tx, undone: bool) -> None:
        ENDS["canceled"][0](tx, make.batch(tx, make.pool(tx)))
        if undone:
            raise Conflict("the transaction ends here")

    with pytest.raises(Conflict):
        sending.database.transact(lambda tx: work(tx, undone=True))
    assert not sending.deliveries(own)
    sending.database.transact(lambda tx: work(tx, undone=False))
    assert [len(sending.deliveries(one)) for one in (own, foreign, picky)] == [1, 0, 0]


def test_a_tick_that_ran_and_one_that_was_skipped_are_told(
    sending: House, there: Receiver, clockwork: Clockwork
) -> None:
    _, secret = sending.endpoint(there.url, *TICKS)
    hourly = clockwork.make("0 * * * *")
    clockwork.at(moment("20T13:00"))
    clockwork.at(moment("20T14:00"))
    ran, _ = clockwork.fires(hourly)
    sending.send()
    told = sorted((one.verified(secret) for one in there.heard), key=lambda one: one["data"]["version"])
    common = {"id": hourly, "url": f"https://muster.example/v1/schedules/{hourly}", "ticks": 1}
    assert [(one["type"], one["data"]) for one in told] == [
        (
            "schedule.fired",
            {**common, "status": "ran", "version": 1, "tick": "2026-11-20T13:00:00+00:00", "request": ran.request_id},
        ),
        (
            "schedule.skipped",
            {**common, "status": "skipped", "version": 2, "tick": "2026-11-20T14:00:00+00:00", "reason": "overlap"},
        ),
    ]


def test_ticks_that_are_skipped_together_are_one_message_and_those_of_a_pause_none(
    sending: House, there: Receiver, clockwork: Clockwork
) -> None:
    webhook, _ = sending.endpoint(there.url, *TICKS)
    foreign, _ = sending.endpoint(there.url, *TICKS, tenant=sending.database.transact(make.tenant))
    every = clockwork.make("* * * * *", misfire="skip", batch=True)
    clockwork.at(moment("20T13:10"))
    clockwork.at(moment("20T18:00"))
    skipped = [d.more for d in sending.deliveries(webhook) if d.type == "schedule.skipped"]
    assert (skipped[0]["reason"], skipped[0]["ticks"]) == ("misfire", 9)
    assert sum(one["ticks"] for one in skipped) == sum(f.state == "skipped" for f in clockwork.fires(every))
    assert any(d.more.get("batch") for d in sending.deliveries(webhook))
    clockwork.turn(every, on=False)
    before = len(sending.deliveries(webhook))
    clockwork.at(moment("20T19:00"))
    assert len(sending.deliveries(webhook)) == before and not sending.deliveries(foreign)
