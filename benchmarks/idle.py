"""A4. What waiting costs: a warm gang that idles for longer than its collective timeout, and 2,000 parked polls."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from typing import Any

import psutil

from benchmarks import crowd, machine, stand
from benchmarks.figures import median, ms, quantile
from benchmarks.results import Aim, Result
from benchmarks.stand import Stand, until

METHOD = """
*Gang*: template `echo`, 4 ranks, collective timeout 5 s; it serves one request, idles, and serves one more on the same
processes. CPU of each rank is user + system time over the idle time, RSS as Linux counts it (shared pages in each).

*Polls*: gangs that exist as rows only, one kept-alive connection each from one other process; all ask for work with
`wait=30` and ask again when nothing came. Nobody beats for them (the lease is set long), so this is the cost of waiting
alone. RSS of the one service process before and after they are parked. Then one request after the other: milliseconds
from before its POST to the answer of the parked poll that got it (record, assign, commit, wake, answer).
"""
TEMPLATES = 4
"""Pools of the crowd: a pool holds at most 1,000 gangs."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the gang idles")
    parser.add_argument("--polls", type=int, default=2000)
    parser.add_argument("--wakes", type=int, default=100)
    options, load = machine.when_quiet(parser, argv)
    result = Result(name="idle", title="Waiting", method=METHOD, load_before=load)
    with stand.postgres() as url, stand.service(url) as muster:
        _measure_gang(result, muster, options.seconds)
    with stand.postgres() as url, stand.service(url, MUSTER_LEASE="3600", MUSTER_BEAT="600") as muster:
        _measure_polls(result, muster, options.polls, options.wakes)
    result.write()


def _measure_gang(result: Result, muster: Stand, seconds: float) -> None:
    muster.apply("echo", ranks_per_node=4, pool={"min": 1, "max": 1}, limits={"data_timeout_s": 5})
    until(lambda: any(gang["state"] == "idle" for gang in muster.gangs("echo")), "the gang is warm")
    first = _serve(muster)
    ranks = {rank["rank"]: psutil.Process(rank["pid"]) for rank in muster.gangs("echo")[0]["ranks"]}
    before, begun = {rank: _cpu_s(process) for rank, process in ranks.items()}, time.monotonic()
    time.sleep(seconds)
    idle_s = time.monotonic() - begun
    share = {rank: 100 * (_cpu_s(process) - before[rank]) / idle_s for rank, process in ranks.items()}
    memory = {rank: process.memory_info().rss / 2**20 for rank, process in ranks.items()}
    same = _serve(muster)["pids"] == first["pids"]
    worst = max(share.values())
    result.aims += [
        Aim(what="CPU of an idle rank", aim="<= 1 % of a core", measured=f"{worst:.2f} %", met=worst <= 1),
        Aim(what=f"serves after {idle_s:.0f} s idle", aim="same processes", measured="yes" if same else "no", met=same),
    ]
    rows = [(rank, f"{share[rank]:.2f}", f"{memory[rank]:.0f}") for rank in sorted(ranks)]
    result.tables.append((f"A gang of 4, idle for {idle_s:.0f} s", ("rank", "% of a core", "RSS MiB"), rows))
    result.samples["gang"] = {"cpu_percent": share, "rss_mib": memory}


def _serve(muster: Stand) -> dict[str, Any]:
    answer = muster.line().good("POST", "/v1/requests", {"template": "echo"}, Prefer="wait=30")
    if answer["status"] != "succeeded":
        raise RuntimeError(f"the request is {answer['status']}: {answer['error']}")
    return dict(answer["result"])


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _measure_polls(result: Result, muster: Stand, polls: int, wakes: int) -> None:
    names = [f"crowd-{number}" for number in range(TEMPLATES)]
    each = polls // TEMPLATES
    for name in names:
        muster.apply(name, like="echo", ranks_per_node=4, pool=crowd.policy(each))
    process = psutil.Process(muster.pid)
    before = process.memory_info().rss / 2**20
    gangs = [gang for name in names for gang in crowd.pretend(muster.database, name, each)]
    parked = asyncio.run(_park_and_wake(muster, gangs, names, wakes, process))
    rss, seconds = parked["rss"], parked["wakes"]
    result.aims.append(
        Aim(
            what=f"RSS of the service with {len(gangs)} polls",
            aim="< 300 MiB",
            measured=f"{rss:.0f} MiB",
            met=rss < 300,
        )
    )
    rows = [
        ("service RSS before", f"{before:.0f} MiB"),
        ("with all polls parked", f"{rss:.0f} MiB"),
        ("a poll", f"{1024 * (rss - before) / len(gangs):.0f} KiB"),
        ("CPU of the service, all parked", f"{parked['cpu']:.1f} % of a core"),
        ("POST to the poll's answer, p50", f"{ms(median(seconds))} ms"),
        ("p99", f"{ms(quantile(seconds, 0.99))} ms"),
    ]
    result.tables.append((f"{len(gangs)} parked polls in one process", ("what", "figure"), rows))
    result.samples["polls"] = {"rss_before_mib": before, "rss_mib": rss, "wake_ms": [ms(each_s) for each_s in seconds]}


async def _park_and_wake(
    muster: Stand, gangs: list[crowd.Pretender], names: list[str], wakes: int, process: psutil.Process
) -> dict[str, Any]:
    answered: asyncio.Queue[float] = asyncio.Queue()
    tasks = []
    for begin in range(0, len(gangs), 100):
        lines = await asyncio.gather(*[crowd.connect(muster, gang) for gang in gangs[begin : begin + 100]])
        tasks += [
            asyncio.create_task(_live(*pair, answered)) for pair in zip(lines, gangs[begin : begin + 100], strict=True)
        ]
        await asyncio.sleep(0.2)
    await asyncio.sleep(5)
    cpu, begun = _cpu_s(process), time.monotonic()
    await asyncio.sleep(30)
    share = 100 * (_cpu_s(process) - cpu) / (time.monotonic() - begun)
    rss = process.memory_info().rss / 2**20
    client, seconds = await crowd.AsyncLine(muster.url, muster.token).open(), []
    for number in range(wakes):
        sent = time.perf_counter()
        await client.good("POST", "/v1/requests", {"template": names[number % len(names)]})
        seconds.append(await asyncio.wait_for(answered.get(), 10) - sent)
    broken = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if broken:
        raise RuntimeError(f"{len(broken)} polls broke off: {broken[0].exception()!r}")
    return {"rss": rss, "cpu": share, "wakes": seconds}


async def _live(line: crowd.AsyncLine, gang: crowd.Pretender, answered: asyncio.Queue[float]) -> None:
    """Rank 0 of one gang, for ever."""
    leases: list[dict[str, Any]] = []
    while True:
        leases = leases or await crowd.poll(line, gang)
        if leases:
            answered.put_nowait(time.perf_counter())
            leases = await crowd.finish(line, leases[0])


if __name__ == "__main__":
    main()
