"""Batches over real ranks: every item once, gangs that come and go, kills, resume, and who goes first."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from stage import Replicas, Stage, Up, echo, processes, until

from orchestrator.client import Batch

pytestmark = pytest.mark.slow

SHARED = "shared"


def items(count: int, **values: Any) -> list[dict[str, Any]]:
    return [{"custom_id": f"i-{n}", "input": {"text": f"t{n}", **values}} for n in range(1, count + 1)]


def over(up: Stage, batch_id: str, within: timedelta = timedelta(seconds=180)) -> Batch:
    """The batch when it is over; the service may be away meanwhile."""
    return up.client.batches.wait(batch_id, within)


def results(up: Stage, batch_id: str) -> list[dict[str, Any]]:
    with up.client.batches.results(batch_id) as chunks:
        return [json.loads(line) for line in b"".join(chunks).splitlines()]


def seen(up: Stage, batch_id: str, enough: Callable[[Batch], bool]) -> Batch:
    """The batch once it is so far."""

    def look() -> Batch | None:
        batch = up.client.batches.get(batch_id)
        assert not batch.is_terminal, f"it is {batch.status}: {batch.reason}"
        return batch if enough(batch) else None

    return until(look, f"{batch_id} is so far", within=timedelta(seconds=90))


def check_whole(up: Stage, batch: Batch, count: int) -> None:
    """Every item succeeded, and has one line in its place that says its own."""
    assert (batch.status, batch.outcome) == ("completed", "all_succeeded"), batch.reason
    assert (batch.counts.total, batch.counts.succeeded, batch.counts.over) == (count, count, count)
    told = results(up, batch.id)
    assert [one["custom_id"] for one in told] == [f"i-{n}" for n in range(1, count + 1)]
    assert [one["result"]["text"] for one in told] == [f"t{n}" for n in range(1, count + 1)]


def test_gangs_drain_a_batch_with_one_model_each_and_leave_by_themselves(up: Up) -> None:
    up.client.apply_template(echo("twins", ranks=2, batch={"max_gangs": 2}))
    batch = up.client.batches.submit("twins", items(60, sleep_s=0.1), max_parallel=2)
    batch = over(up, batch.id)
    check_whole(up, batch, 60)
    told = results(up, batch.id)
    assert {one["result"]["builds"] for one in told} == {1}
    shares = Counter(tuple(one["result"]["pids"]) for one in told)
    assert len(shares) == 2 and min(shares.values()) >= 5
    until(lambda: not up.gangs("twins"), "its gangs have left")
    ended = [gang for gang in up.client.gangs(state=["gone"]) if gang.template == "twins"]
    assert {gang.reason for gang in ended} <= {"nothing is left of its batch", "nothing is left for it"}


@pytest.mark.long
def test_a_batch_that_loses_its_gangs_again_and_again_is_whole_in_the_end(up: Up) -> None:
    up.client.apply_template(echo("mortal", ranks=2, batch={"max_gangs": 2}))
    batch = up.client.batches.submit("mortal", items(120, sleep_s=0.1), max_parallel=2)
    for _ in range(3):
        done = up.client.batches.get(batch.id).counts.over
        seen(up, batch.id, lambda now, done=done: now.counts.over >= done + 10)  # type: ignore[misc]
        gang = until(
            lambda: next((one for one in up.gangs("mortal") if one.state in ("idle", "busy")), None), "a gang runs"
        )
        for process in processes.ranks(gang.id):
            process.kill()
    check_whole(up, over(up, batch.id), 120)


@pytest.mark.long
def test_a_batch_outlives_the_service(up: Up) -> None:
    up.client.apply_template(echo("patient-twins", ranks=2, batch={"max_gangs": 2}))
    batch = up.client.batches.submit("patient-twins", items(120, sleep_s=0.1), max_parallel=2)
    for _ in range(2):
        done = up.client.batches.get(batch.id).counts.over
        seen(up, batch.id, lambda now, done=done: now.counts.over >= done + 10)  # type: ignore[misc]
        up.kill()
        up.start()
    check_whole(up, over(up, batch.id), 120)


@pytest.mark.long
def test_a_batch_that_is_canceled_half_way_runs_only_the_rest_when_it_is_resumed(up: Up) -> None:
    up.client.apply_template(echo("halves", ranks=2))
    batch = up.client.batches.submit("halves", items(40, sleep_s=0.1))
    seen(up, batch.id, lambda now: now.counts.over >= 20)
    up.client.batches.cancel(batch.id)
    canceled = over(up, batch.id)
    assert (canceled.status, canceled.outcome) == ("canceled", "partial")
    kept = {one["custom_id"]: one["request"] for one in results(up, batch.id) if one["status"] == "succeeded"}
    assert 20 <= len(kept) < 40 and canceled.counts.canceled == 40 - len(kept)
    again = up.client.batches.resume(batch.id)
    assert again.counts.queued + again.counts.running == 40 - len(kept)
    check_whole(up, over(up, batch.id), 40)
    after = {one["custom_id"]: one["request"] for one in results(up, batch.id)}
    assert {name: after[name] for name in kept} == kept
    assert not {request for name, request in after.items() if name not in kept} & set(kept.values())


@pytest.mark.long
def test_an_online_request_waits_for_one_item_of_a_batch_at_most(up: Up) -> None:
    item_s = 1.0
    up.client.apply_template(echo(SHARED, ranks=2, min=1, batch={"max_gangs": 1, "share_pool": True}))
    warm = up.idle_gang(SHARED)
    batch = up.client.batches.submit(SHARED, items(60, sleep_s=item_s), max_parallel=2)
    seen(up, batch.id, lambda now: now.counts.over >= 2)
    waits = []
    for _ in range(3):
        until(lambda: up.client.gang(warm.id).state == "busy", "the warm gang runs an item")
        began = time.monotonic()
        request = up.run(SHARED, {"text": "me first"}, mode="warm")
        waits.append(time.monotonic() - began)
        assert request.succeeded and request.placement is not None and request.placement.gang == warm.id
    assert max(waits) < item_s + 1.5, waits
    assert up.client.batches.get(batch.id).counts.over < 50
    up.client.batches.cancel(batch.id)
    over(up, batch.id)


@pytest.mark.long
def test_replicas_share_a_batch_and_one_of_them_may_die(replicas: Replicas) -> None:
    replicas.client.apply_template(echo("common", ranks=2, batch={"max_gangs": 2}))
    batch = replicas.client.batches.submit("common", items(100, sleep_s=0.1), max_parallel=2)
    seen(replicas, batch.id, lambda now: now.counts.over >= 20)
    replicas.both[1].kill()
    seen(replicas, batch.id, lambda now: now.counts.over >= 50)
    replicas.both[1].begin()
    replicas.both[1].await_ready()
    check_whole(replicas, over(replicas, batch.id), 100)
    until(lambda: not replicas.gangs("common"), "its gangs have left")
