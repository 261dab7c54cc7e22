"""B3 and B5. What a batch that was canceled half way runs when it is resumed, and how long requests wait for its items.

`python -m benchmarks.turns` writes results/turns.md; takes about two minutes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from benchmarks import machine
from benchmarks.results import Aim, Result
from benchmarks.staged import Up, echo, staged, until
from benchmarks.staged import count as counted
from orchestrator.client import Batch

HALVES, SHARED = "halves", "shared"
ITEM_S = 1.0
PATIENCE = timedelta(minutes=5)
METHOD = f"""
`muster up` with its embedded Postgres and local gangs of two ranks. *Resume*: a batch of no-op items over two gangs is
canceled once half of them are over, and resumed when it is; counted is what the database knows of each item's tries.
*Turns*: a batch of items of {ITEM_S:g} s runs on a gang of its own and, since its template has `share_pool`, on the one
warm gang. Whenever that is busy with an item, a request comes for it (`mode: warm`). Its wait counts from its record to
its assignment, by the database's clock; and no item may begin on that gang in between.
"""


@dataclass(frozen=True, kw_only=True)
class Halves:
    """A batch that was canceled half way."""

    kept: int
    """Items that had succeeded by then."""
    left: int
    again: int
    """Items that ran although they had succeeded."""
    batch: Batch
    seconds: float
    """From the resume to the end."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One request that came while the warm gang ran an item."""

    wait_s: float
    items_before: int
    """That began on its gang while it waited."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--requests", type=int, default=20)
    options, load = machine.when_quiet(parser, argv)
    result = Result(name="turns", title="Resume, and whose turn it is", method=METHOD, load_before=load)
    with staged("turns") as up:
        halves = _resume(up, options.items)
        turns = _turns(up, options.requests)
        if broken := up.violations():
            raise SystemExit(str(broken))
    _report(result, halves, turns, options.items)
    result.write()


def _resume(up: Up, count: int) -> Halves:
    up.client.apply_template(echo(HALVES, ranks=2, batch={"max_gangs": 2}))
    lines = [{"custom_id": f"i-{n}", "input": {"text": f"t{n}", "sleep_s": 0.05}} for n in range(count)]
    batch = up.client.batches.submit(HALVES, lines, max_parallel=2)
    until(lambda: up.client.batches.get(batch.id).counts.over >= count // 2 or None, "half of it", within=PATIENCE)
    up.client.batches.cancel(batch.id)
    canceled = up.client.batches.wait(batch.id, PATIENCE)
    kept = canceled.counts.succeeded
    began = time.monotonic()
    up.client.batches.resume(batch.id)
    done = up.client.batches.wait(batch.id, PATIENCE)
    again = counted(
        up,
        "SELECT count(*) FROM request r WHERE r.batch_id = :b AND r.state = 'succeeded' AND r.replaced_by IS NOT NULL",
        b=batch.id,
    )
    return Halves(kept=kept, left=count - kept, again=again, batch=done, seconds=time.monotonic() - began)


def _turns(up: Up, count: int) -> list[Turn]:
    up.client.apply_template(echo(SHARED, ranks=2, min=1, batch={"max_gangs": 1, "share_pool": True}))
    warm = up.idle_gang(SHARED).id
    lines = [{"input": {"sleep_s": ITEM_S}} for _ in range(20 * count)]
    batch = up.client.batches.submit(SHARED, lines, max_parallel=2)
    turns = []
    for _ in range(count):
        until(lambda: _runs_an_item(up, warm), "the warm gang runs an item")
        request = up.run(SHARED, {"text": "me first"}, mode="warm")
        turns.append(_turn(up, request.id, warm))
    up.client.batches.cancel(batch.id)
    up.client.batches.wait(batch.id, PATIENCE)
    return turns


def _runs_an_item(up: Up, gang: str) -> bool:
    query = "SELECT count(*) FROM request WHERE gang_id = :g AND batch_id IS NOT NULL AND state = 'running'"
    return bool(counted(up, query, g=gang))


def _turn(up: Up, request: str, gang: str) -> Turn:
    query = text(
        "SELECT extract(epoch FROM a.granted_at - r.created_at) AS wait_s, (SELECT count(*) FROM attempt i"
        " WHERE i.gang_id = :g AND i.granted_at > r.created_at AND i.granted_at < a.granted_at) AS items"
        " FROM request r JOIN attempt a ON a.request_id = r.id WHERE r.id = :r AND a.gang_id = :g"
    )
    row = up.look(lambda tx: tx.execute(query, {"r": request, "g": gang}).one())
    return Turn(wait_s=float(row.wait_s), items_before=row.items)


def _report(result: Result, halves: Halves, turns: list[Turn], count: int) -> None:
    waits = [turn.wait_s for turn in turns]
    ahead = sum(turn.items_before for turn in turns)
    whole = (halves.batch.outcome, halves.batch.counts.succeeded) == ("all_succeeded", count)
    result.aims = [
        Aim(
            what="items that ran again after they had succeeded",
            aim="0",
            measured=str(halves.again),
            met=not halves.again,
        ),
        Aim(
            what="items that succeeded in the end",
            aim=str(count),
            measured=str(halves.batch.counts.succeeded),
            met=whole,
        ),
        Aim(what="items that began before a request that waited", aim="0", measured=str(ahead), met=not ahead),
        Aim(
            what="longest wait of a request",
            aim=f"one item ({ITEM_S:g} s) and at most 0.5 s",
            measured=f"{max(waits):.2f} s",
            met=max(waits) <= ITEM_S + 0.5,
        ),
    ]
    resume = [
        ("succeeded when it was canceled", halves.kept),
        ("left", halves.left),
        ("seconds", f"{halves.seconds:.1f}"),
    ]
    shared = [
        ("requests", len(waits)),
        ("median wait", f"{statistics.median(waits):.2f} s"),
        ("longest", f"{max(waits):.2f} s"),
    ]
    result.tables = [
        (f"Resume of {count} items", ("what", "measured"), resume),
        ("Turns on a warm gang", ("what", "measured"), shared),
    ]
    result.samples = {"wait_s": waits, "resume_s": halves.seconds}


if __name__ == "__main__":
    main()
