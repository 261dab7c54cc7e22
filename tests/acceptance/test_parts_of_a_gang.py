"""Gangs of several replicas over real ranks: items run side by side, and what ends one leaves the others alone."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from stage import Up, processes, until

from orchestrator.client import Batch, Gang

pytestmark = pytest.mark.slow

PARTS = Path(__file__).parent / "stage" / "parts.py"
PLAIN = Path(__file__).parent / "stage" / "plain_script.py"
MINUTES = timedelta(seconds=180)


def template(name: str, *, nodes: int, ranks: int, replicas: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "handler": f"{PARTS}:Parts",
        "nodes": nodes,
        "ranks_per_node": ranks,
        "replicas": replicas,
        "limits": {"data_timeout_s": 30},
        **more,
    }


def items(count: int, **values: Any) -> list[dict[str, Any]]:
    return [{"custom_id": f"i-{n}", "input": {"text": f"t{n}", **values}} for n in range(1, count + 1)]


def told(up: Up, batch: Batch, count: int) -> list[dict[str, Any]]:
    """The results of a batch of which every item succeeded, once."""
    batch = up.client.batches.wait(batch.id, MINUTES)
    assert (batch.status, batch.outcome) == ("completed", "all_succeeded"), batch.reason
    assert (batch.counts.total, batch.counts.succeeded) == (count, count)
    with up.client.batches.results(batch.id) as chunks:
        lines = [json.loads(line) for line in b"".join(chunks).splitlines()]
    assert [one["result"]["text"] for one in lines] == [f"t{n}" for n in range(1, count + 1)]
    return lines


def busy(up: Up, name: str, replicas: int) -> Gang:
    """The gang of the template, once each of its replicas runs something."""

    def look() -> Gang | None:
        return next(
            (gang for gang in up.gangs(name) if sum(bool(one.request) for one in gang.replicas) == replicas), None
        )

    return until(look, f"all replicas of {name} run something", within=timedelta(seconds=90))


@pytest.mark.parametrize(
    ("nodes", "ranks", "parts"),
    [(2, 2, 4), pytest.param(1, 4, 2, marks=pytest.mark.long), pytest.param(2, 2, 2, marks=pytest.mark.long)],
)
def test_the_replicas_of_one_gang_drain_a_batch_side_by_side(up: Up, nodes: int, ranks: int, parts: int) -> None:
    name, size = f"parts-{nodes}-{ranks}-{parts}", nodes * ranks // parts
    up.client.apply_template(template(name, nodes=nodes, ranks=ranks, replicas=parts))
    batch = up.client.batches.submit(name, items(40, sleep_s=0.05))
    results = [one["result"] for one in told(up, batch, 40)]
    assert {tuple(one["replica"]) for one in results} == {(number, parts) for number in range(parts)}
    assert min(Counter(one["replica"][0] for one in results).values()) >= 3
    assert {one["builds"] for one in results} == {1}
    for one in results:
        first = one["replica"][0] * size
        assert one["rank"] == [0, size, 0, first] and one["ranks_summed"] == sum(range(first, first + size))
        assert one["environment"] == ["0", str(size), "0", str(min(size, ranks))]
    pids = {one["replica"][0]: tuple(one["pids"]) for one in results}
    assert {tuple(one["pids"]) for one in results} == set(pids.values())
    assert len({pid for some in pids.values() for pid in some}) == nodes * ranks
    assert any(_overlap(one, other) for one, other in combinations(results, 2) if one["replica"] != other["replica"])
    until(lambda: not up.gangs(name), "its gang has left")
    (gang,) = [gang for gang in up.client.gangs(state=["gone"]) if gang.template == name]
    assert (gang.reason, gang.served, gang.incarnation) == ("nothing is left of its batch", 40, 1)


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["began"] < other["ended"] and other["began"] < one["ended"])


@pytest.mark.long
def test_an_item_that_is_canceled_leaves_its_neighbours_and_their_logs_are_their_own(up: Up) -> None:
    up.client.apply_template(template("neighbours", nodes=1, ranks=2, replicas=2))
    batch = up.client.batches.submit("neighbours", items(3, sleep_s=0.1, steps=40))
    gang = busy(up, "neighbours", 2)
    assert [(one.first_rank, one.ranks) for one in gang.replicas] == [(0, 1), (1, 1)]
    canceled, kept = (str(one.request) for one in gang.replicas)
    up.client.cancel(canceled)
    ended = up.client.batches.wait(batch.id, MINUTES)
    assert (ended.counts.canceled, ended.counts.succeeded) == (1, 2)
    one = up.client.get(kept)
    assert (one.status, one.attempt, one.placement.first_rank, one.placement.ranks) == ("succeeded", 1, 1, 1)
    assert up.client.logs(kept, rank="all").splitlines() == ["[r1] rank 1 was here"]
    assert up.client.logs(kept) == "rank 1 was here\n"
    assert "".join(chunk.text for chunk in up.client.follow_logs(kept)) == "rank 1 was here\n"


@pytest.mark.long
def test_a_rank_that_is_killed_costs_what_its_gang_ran_and_no_more(up: Up) -> None:
    up.client.apply_template(template("brittle", nodes=1, ranks=2, replicas=2))
    lines = items(12, sleep_s=0.1, steps=5)
    for first in lines[:2]:
        first["input"]["sleep_s"] = 5  # whoever looks and kills does so while they run
    batch = up.client.batches.submit("brittle", lines)
    gang = busy(up, "brittle", 2)
    running = [str(one.request) for one in gang.replicas]
    processes.ranks(gang.id)[1].kill()
    attempts = {one["request"]: up.client.get(one["request"]).attempt for one in told(up, batch, 12)}
    assert [attempts[request] for request in running] == [2, 2] and Counter(attempts.values()) == {1: 10, 2: 2}
    losses = [up.client.get(request).raw["losses"][0] for request in running]
    assert losses[0]["reason"] == "gang_lost" and "replica 1 of its gang" in losses[0]["message"]
    assert losses[1]["reason"] == "rank_failed" and losses[1]["rank"] == 1


@pytest.mark.long
@pytest.mark.parametrize(("how", "reason"), [("asleep", "no_progress"), ("deaf", "lease_expired")])
def test_an_item_that_stands_still_is_named_and_its_neighbour_is_tried_again(up: Up, how: str, reason: str) -> None:
    limits = {"data_timeout_s": 30, "no_progress_s": 3}
    up.client.apply_template(template(how, nodes=1, ranks=2, replicas=2) | {"limits": limits})
    lines = [
        {"input": {"text": "t1", "hang": how}},
        *({"input": {"text": f"t{n}", "sleep_s": 1, "steps": 20}} for n in (2, 3)),
    ]
    batch = up.client.batches.submit(how, lines)
    stuck, neighbour, later = (up.client.get(one["request"]).raw for one in told(up, batch, 3))
    assert [one["attempt"] for one in (stuck, neighbour, later)] == [2, 2, 1]
    assert (stuck["losses"][0]["reason"], neighbour["losses"][0]["reason"]) == (reason, "gang_lost")
    assert "of its gang took the others with it" in neighbour["losses"][0]["message"]


@pytest.mark.long
def test_a_script_that_makes_its_own_default_group_runs_in_each_replica_as_alone(up: Up) -> None:
    script = {"path": str(PLAIN), "outputs": {"out": "out.json"}}
    document = template("plain", nodes=1, ranks=4, replicas=2, script=script)
    up.client.apply_template({name: value for name, value in document.items() if name != "handler"})
    batch = up.client.batches.submit("plain", [{"input": {"number": number}} for number in range(1, 9)])
    batch = up.client.batches.wait(batch.id, MINUTES)
    assert batch.outcome == "all_succeeded", batch.reason
    with up.client.batches.results(batch.id) as chunks:
        requests = [up.client.get(json.loads(line)["request"]) for line in b"".join(chunks).splitlines()]
    assert {request.placement.first_rank for request in requests if request.placement} == {0, 2}
    said = [json.loads(up.client.download(request.id, "out.json", up.home).read_text()) for request in requests]
    assert said == [{"world": 2, "total": number * 11} for number in range(1, 9)]


@pytest.mark.long
def test_requests_run_side_by_side_on_a_warm_gang_that_drains_when_the_last_is_done(up: Up) -> None:
    up.client.apply_template(template("warm-parts", nodes=1, ranks=2, replicas=2, pool={"min": 1, "max": 1}))
    up.idle_gang("warm-parts")
    short, long = (up.client.submit("warm-parts", {"sleep_s": 0.1, "steps": steps}) for steps in (10, 40))
    gang = busy(up, "warm-parts", 2)
    up.client.drain_gang(gang.id)
    one, other = (up.client.wait(request.id, MINUTES) for request in (short, long))
    assert one.status == other.status == "succeeded" and one.placement.gang == other.placement.gang == gang.id
    assert _overlap(one.result or {}, other.result or {})
    left = until(lambda: next((g for g in up.client.gangs(state=["gone"]) if g.id == gang.id), None), "it has left")
    assert left.served == 2
