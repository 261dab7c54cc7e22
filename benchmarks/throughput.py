"""A8. How much one service process on this machine takes: accepting, whole lifecycles, and scheduler ticks."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Iterator, Sequence

import psycopg2
import uvloop

from benchmarks import crowd, machine, peers, stand, ticks
from benchmarks.figures import median, ms, quantile
from benchmarks.results import Aim, Result
from benchmarks.stand import Stand
from benchmarks.wire import AsyncLine

CLIENTS = 16
GANGS = 16
OUTSTANDING = 256
SUBMITTERS = 16
METHOD = f"""
One Postgres (embedded, fsync and synchronous commit on) and one `muster up` over it; the load comes from one other
process on one event loop. Whatever is compared takes turns in blocks, in random order.

* *Accept*: {CLIENTS} clients, each `POST /v1/requests` (mode auto) as soon as the last was answered 202; the pool's one
  gang never becomes ready, so all wait. *bare*: a FastAPI route with one psycopg2 INSERT on a thread, same Postgres.
* *Lifecycles*: requests submitted over HTTP, at most {OUTSTANDING} open; {GANGS} gangs without ranks speak the worker
  protocol over HTTP (work, then finish after finish, which carries the next lease). Counted from the first POST to the
  last accepted finish. *procrastinate*: a worker drains no-ops that were deferred in one batch before (its best case),
  and, as `whole`, while they are deferred one by one, on the same Postgres; better of concurrency 1 and 10.
* *Ticks*: `store.scheduling.assign_pool` called in this process: free gangs, a backlog of {ticks.TENANTS} tenants;
  assignments per second of transaction time, commit included.
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accepts", type=int, default=400, help="requests in a block")
    parser.add_argument("--lifecycles", type=int, default=1600, help="requests in a block")
    parser.add_argument("--blocks", type=int, default=5, help="of each kind")
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--ticks", type=int, default=20)
    options, load = machine.when_quiet(parser, argv)
    result = Result(name="throughput", title="Throughput", method=METHOD, load_before=load)
    _measure_accepts(result, options.accepts, options.blocks)
    _measure_lifecycles(result, options.lifecycles, options.blocks)
    _measure_ticks(result, options.backlog, options.ticks)
    result.write()


# -------------------------------------------------------------------------------------------------------------- accept


def _measure_accepts(result: Result, requests: int, blocks: int) -> None:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(stand.postgres())
        bare = stack.enter_context(peers.running("floor", _libpq(url), interpreter=sys.executable))
        muster = stack.enter_context(stand.service(url))
        muster.apply("echo", pool={"min": 0, "max": 1})
        crowd.pretend(muster.database, "echo", 1, state="launching")
        targets = {
            "muster": (muster.url, muster.token, "/v1/requests", {"template": "echo", "input": {"text": "x"}}),
            "bare": (bare["url"], "", "/insert", {"template": "echo", "input": {"text": "x"}}),
        }
        for target in targets.values():
            uvloop.run(_submit_all(*target, requests=CLIENTS * 10))
        rates: dict[str, list[float]] = {name: [] for name in targets}
        seconds: dict[str, list[float]] = {name: [] for name in targets}
        for name in _shuffled(list(targets), blocks):
            begun = time.perf_counter()
            seconds[name] += uvloop.run(_submit_all(*targets[name], requests=requests))
            rates[name].append(requests / (time.perf_counter() - begun))
    ratio = median(rates["muster"]) / median(rates["bare"])
    result.aims.append(Aim(what="accepted / bare INSERT", aim=">= 0.5", measured=f"{ratio:.2f}", met=ratio >= 0.5))
    rows = [
        (name, f"{median(rates[name]):.0f}", _range(rates[name]), ms(median(s)), ms(quantile(s, 0.99)))
        for name, s in seconds.items()
    ]
    result.tables.append((f"Accept, {CLIENTS} clients", ("target", "per s", "range", "p50 ms", "p99 ms"), rows))
    result.samples["accepts_per_s"] = rates


async def _submit_all(url: str, token: str, path: str, body: object, *, requests: int) -> list[float]:
    """Seconds of each answer."""
    seconds: list[float] = []

    async def client() -> None:
        line = await AsyncLine(url, token).open()
        for _ in range(requests // CLIENTS):
            begun = time.perf_counter()
            await line.good("POST", path, body)
            seconds.append(time.perf_counter() - begun)
        await line.close()

    await asyncio.gather(*[client() for _ in range(CLIENTS)])
    return seconds


# ---------------------------------------------------------------------------------------------------------- lifecycles


def _measure_lifecycles(result: Result, requests: int, blocks: int) -> None:
    with stand.postgres() as url, stand.service(url, MUSTER_LEASE="3600", MUSTER_BEAT="600") as muster:
        muster.apply("echo", pool=crowd.policy(GANGS))
        gangs = crowd.pretend(muster.database, "echo", GANGS)
        version = peers.has("procrastinate")
        kinds = ["muster", "procrastinate"] if version else ["muster"]
        rates: dict[str, list[float]] = {}
        uvloop.run(_live_all(muster, gangs, requests // 4))
        for kind in _shuffled(kinds, blocks):
            for name, rate in _lifecycles(kind, muster, gangs, url, requests):
                rates.setdefault(name, []).append(rate)
    result.notes.append(f"procrastinate {version}" if version else "procrastinate is not installed here: skipped")
    ours = median(rates["muster"])
    result.aims.append(Aim(what="lifecycles per second", aim=">= 300", measured=f"{ours:.0f}", met=ours >= 300))
    if version:
        ratio = ours / median(rates["procrastinate drain"])
        what = "lifecycles / procrastinate's drain"
        result.aims.append(Aim(what=what, aim="-", measured=f"{ratio:.2f}", met=ratio >= 1))
    rows = [(name, f"{median(rate):.0f}", _range(rate)) for name, rate in rates.items()]
    result.tables.append(("Lifecycles", ("what", "per s", "range"), rows))
    result.samples["lifecycles_per_s"] = rates


def _lifecycles(
    kind: str, muster: Stand, gangs: list[crowd.Pretender], url: str, requests: int
) -> Iterator[tuple[str, float]]:
    if kind == "muster":
        yield "muster", requests / uvloop.run(_live_all(muster, gangs, requests))
        return
    runs = [_drain(url, requests // 4, concurrency) for concurrency in (1, 10)]
    for what in ("drain", "whole"):
        yield f"procrastinate {what}", max(run["jobs"] / run[what] for run in runs)


async def _live_all(muster: Stand, gangs: list[crowd.Pretender], requests: int) -> float:
    """Seconds until all are done."""
    room, left, over = asyncio.Semaphore(OUTSTANDING), requests, asyncio.Event()

    async def live(gang: crowd.Pretender) -> None:
        nonlocal left
        line = await crowd.connect(muster, gang)
        while True:
            leases = await crowd.poll(line, gang)
            while leases:
                leases = await crowd.finish(line, leases[0])
                room.release()
                left -= 1
                if left == 0:
                    over.set()

    async def submit(count: int) -> None:
        line = await AsyncLine(muster.url, muster.token).open()
        for _ in range(count):
            await room.acquire()
            await line.good("POST", "/v1/requests", {"template": "echo", "input": {"text": "x"}})
        await line.close()

    living = [asyncio.create_task(live(gang)) for gang in gangs]
    await asyncio.sleep(0.2)
    begun = time.perf_counter()
    try:
        await asyncio.wait_for(
            asyncio.gather(over.wait(), *[submit(requests // SUBMITTERS) for _ in range(SUBMITTERS)]), 120
        )
        return time.perf_counter() - begun
    finally:
        for task in living:
            task.cancel()
        await asyncio.gather(*living, return_exceptions=True)


def _drain(url: str, jobs: int, concurrency: int) -> dict[str, float]:
    """One run of the peer on a database of its own, beside ours."""
    with contextlib.closing(psycopg2.connect(_libpq(url))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_database WHERE datname = 'peer'")
            if cursor.rowcount == 0:
                cursor.execute("CREATE DATABASE peer")
    base = _libpq(url).rpartition("/")[0]
    with peers.running("queue_drain", f"{base}/peer", str(jobs), str(concurrency)) as answer:
        return dict(answer)


# --------------------------------------------------------------------------------------------------------------- ticks


def _measure_ticks(result: Result, backlog: int, count: int) -> None:
    rows, best = [], 0.0
    for gangs in (256, 512):
        with stand.postgres() as url:
            measured = ticks.measure(url, gangs=gangs, backlog=backlog, ticks=count)
        rate = sum(granted for granted, _ in measured) / sum(seconds for _, seconds in measured)
        best = max(best, rate)
        rows.append((gangs, backlog, f"{rate:.0f}", ms(median([seconds for _, seconds in measured]))))
        result.samples[f"ticks_{gangs}"] = measured
    result.aims.append(Aim(what="assignments per s of tick", aim=">= 5,000", measured=f"{best:.0f}", met=best >= 5000))
    result.tables.append(("Ticks", ("free gangs", "queued", "assignments per s", "median tick ms"), rows))


def _libpq(url: str) -> str:
    return url.replace("+psycopg2", "")


def _shuffled(kinds: list[str], blocks: int) -> list[str]:
    turns = kinds * blocks
    random.shuffle(turns)
    return turns


def _range(rates: list[float]) -> str:
    return f"{min(rates):.0f}-{max(rates):.0f}"


if __name__ == "__main__":
    main()
