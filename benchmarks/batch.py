"""B2. 1,000 no-op items over two gangs of two ranks: how fast, and whole though gangs or the service are killed.

`python -m benchmarks.batch` writes results/batch.md; takes about five minutes. Promises are checked after each run.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from benchmarks import machine
from benchmarks.results import Aim, Result
from benchmarks.staged import Up, echo, processes, staged, until
from benchmarks.staged import count as counted
from orchestrator.client import Batch

NAME = "noop"
EVERY_S = 5.0
PATIENCE = timedelta(minutes=10)
METHOD = """
`muster up` with its embedded Postgres, a batch of no-op items (one all-reduce over the ranks), at most two gangs of two
ranks, all on this machine. Items per second count from the first item on a gang to the last that was over; a start of
gangs is not in it. Then the same while, every five seconds, all ranks of a gang that is ready are killed (SIGKILL),
or the service with its Postgres, which is started again at once. After each run the promises are checked,
I18 among them, and results.jsonl must have one line for each item, in order, with that item's own result.
"""
Blow = Callable[[Up], None]
_TWICE = "(SELECT count(*) FROM event e WHERE e.subject = r.id AND move = 'succeed') > 1"


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a batch went."""

    what: str
    batch: Batch
    seconds: float
    """From the first item on a gang to the end."""
    blows: int
    gangs: int
    builds: int
    """The most models that any process built."""
    succeeded_twice: int
    tried_again: int
    whole: bool
    """Whether the results are one line for each item, in order, and each its own."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1000)
    options, load = machine.when_quiet(parser, argv)
    result = Result(name="batch", title="A batch over two gangs", method=METHOD, load_before=load)
    with staged("batch") as up:
        up.client.apply_template(echo(NAME, ranks=2, batch={"max_gangs": 2}))
        runs = [
            _run(up, "undisturbed", options.items, None),
            _run(up, "a gang killed every 5 s", options.items, _kill_a_gang),
            _run(up, "the service killed every 5 s", options.items, _kill_the_service),
        ]
    _report(result, runs, options.items)
    result.write()


def _run(up: Up, what: str, count: int, blow: Blow | None) -> Run:
    before = {gang.id for gang in up.client.gangs(state=["gone"])}
    lines = [{"custom_id": f"i-{n}", "input": {"text": f"t{n}"}} for n in range(count)]
    batch = up.client.batches.submit(NAME, lines, max_parallel=2)
    until(lambda: up.client.batches.get(batch.id).counts.over, "the first item is over", within=PATIENCE)
    blows = _strike_until_over(up, batch.id, blow)
    batch = up.client.batches.wait(batch.id, PATIENCE)
    until(lambda: not up.gangs(NAME), "the gangs have left")
    if broken := up.violations():
        raise SystemExit(f"{what}: {broken}")
    told = _results(up, batch.id)
    expected = [(f"i-{n}", f"t{n}") for n in range(count)]
    assert batch.started_at is not None and batch.finished_at is not None
    run = Run(
        what=what,
        batch=batch,
        seconds=(batch.finished_at - batch.started_at).total_seconds(),
        blows=blows,
        gangs=len({gang.id for gang in up.client.gangs(state=["gone"]) if gang.template == NAME} - before),
        builds=max(one["result"]["builds"] for one in told),
        succeeded_twice=_count(up, batch.id, _TWICE),
        tried_again=_count(up, batch.id, "attempts > 1"),
        whole=[(one["custom_id"], one["result"]["text"]) for one in told] == expected,
    )
    print(f"{what}: {batch.status}, {run.seconds:.1f} s, {blows} blows", file=sys.stderr, flush=True)
    return run


def _strike_until_over(up: Up, batch_id: str, blow: Blow | None) -> int:
    """How many blows fell."""
    blows = 0
    if blow is None:
        return blows
    while not up.client.batches.get(batch_id).is_terminal:
        blow(up)
        blows += 1
        time.sleep(EVERY_S)
    return blows


def _kill_a_gang(up: Up) -> None:
    """One that has become ready: a gang that dies before counts as a failed start."""
    ready = [gang for gang in up.gangs(NAME) if gang.state in ("idle", "busy")]
    if ready:
        for process in processes.ranks(random.choice(ready).id):
            with suppress(Exception):
                process.kill()


def _kill_the_service(up: Up) -> None:
    up.kill()
    up.start()


def _results(up: Up, batch_id: str) -> list[dict[str, Any]]:
    with up.client.batches.results(batch_id) as chunks:
        return [json.loads(line) for line in b"".join(chunks).splitlines()]


def _count(up: Up, batch_id: str, condition: str) -> int:
    return counted(up, f"SELECT count(*) FROM request r WHERE batch_id = :b AND {condition}", b=batch_id)


def _report(result: Result, runs: list[Run], count: int) -> None:
    calm = runs[0]
    exact = all((run.batch.outcome, run.batch.counts.succeeded) == ("all_succeeded", count) for run in runs)
    result.aims = [
        Aim(what="items per second, undisturbed", aim="-", measured=f"{count / calm.seconds:.0f}", met=True),
        Aim(what="models built per rank", aim="1", measured=str(calm.builds), met=calm.builds == 1),
        Aim(
            what="items run more than once, undisturbed",
            aim="0",
            measured=str(calm.tried_again),
            met=not calm.tried_again,
        ),
        Aim(what="counts exact in every run", aim="yes", measured="yes" if exact else "no", met=exact),
        Aim(
            what="items with two successes",
            aim="0",
            measured=str(sum(run.succeeded_twice for run in runs)),
            met=not any(run.succeeded_twice for run in runs),
        ),
        Aim(
            what="results complete, in order, each its own",
            aim="every run",
            measured="every run" if all(run.whole for run in runs) else "not every run",
            met=all(run.whole for run in runs),
        ),
    ]
    columns = ("run", "seconds", "items per s", "blows", "gangs", "items tried again", "models per process")
    rows = [_row(run, count) for run in runs]
    result.tables = [(f"{count:,} items", columns, rows)]
    result.samples = {run.what: {"seconds": run.seconds, "blows": run.blows, "again": run.tried_again} for run in runs}


def _row(run: Run, count: int) -> tuple[object, ...]:
    rate = f"{count / run.seconds:.0f}"
    return run.what, f"{run.seconds:.1f}", rate, run.blows, run.gangs, run.tried_again, run.builds


if __name__ == "__main__":
    main()
