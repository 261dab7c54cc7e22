"""D4. What following costs: 500 streams of one running request, and how late an update reaches them."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from benchmarks import machine
from benchmarks.figures import median, ms, quantile
from benchmarks.results import Aim, Result
from benchmarks.stand import Stand
from benchmarks.watched import LOADED, Watched, delays, measured, shares, until

METHOD = """
One gang that exists as a row only runs one request. One other process opens a connection for each follower and reads
`GET /v1/requests/{id}/events` as server-sent events; the same process is the gang's rank 0 and beats with a new step
five times a second. RSS is that of the one service process: before the first follower, and when all have been following
for some seconds. Delay: from before the POST of the beat to the moment at which a follower has read the `progress`
event with its step; the share of the reading process, which wakes once for every follower, is in it. Then the gang
reports the end, and the delay of `done` is taken likewise. Every follower must have seen exactly the moves of the event
table.
"""
TEMPLATE = "followed"


@dataclass
class Follower:
    """What one of them read."""

    ids: list[str] = field(default_factory=list)
    steps: dict[int, float] = field(default_factory=dict)
    """When each step was read."""
    done_at: float | None = None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--followers", type=int, default=500)
    parser.add_argument("--beats", type=int, default=100)
    options, load = machine.when_quiet(parser, argv)
    result = Result(name="followers", title="Following", method=METHOD, load_before=load)
    found = measured(TEMPLATE, 0, lambda watched: _measure(watched, options.followers, options.beats))
    _tell(result, found)
    if load > machine.QUIET_LOAD:
        result.notes.append(LOADED.format(load=load))
    result.write()


async def _measure(watched: Watched, count: int, beats: int) -> dict[str, Any]:
    before = watched.rss_mib()
    followers = [Follower() for _ in range(count)]
    tasks = [asyncio.create_task(_follow(watched.muster, watched.request, follower)) for follower in followers]
    await until(lambda: all(follower.ids for follower in followers), "all follow")
    await asyncio.sleep(5)
    idle = await watched.cpu_during(asyncio.sleep(20))
    rss = watched.rss_mib()
    sent, busy = await watched.beat_each(range(1, beats + 1), every_s=0.2)
    await asyncio.sleep(1)
    peak = watched.rss_mib()
    ended = time.perf_counter()
    await watched.finish()
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    events = (await watched.client.good("GET", f"/v1/requests/{watched.request}/events"))["data"]
    return {
        "followers": followers,
        "sent": sent,
        "ended": ended,
        "events": [str(event["seq"]) for event in events],
        "rss": (before, rss, peak),
        "cpu": (idle, busy),
    }


async def _follow(muster: Stand, request: str, follower: Follower) -> None:
    """Read one stream to its end, with as little work as it takes."""
    place = urlsplit(muster.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = (
        f"GET /v1/requests/{request}/events HTTP/1.1\r\nHost: {place.netloc}\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {muster.token}\r\n\r\n"
    )
    writer.write(head.encode())
    if b" 200 " not in (answer := await reader.readuntil(b"\r\n\r\n")):
        raise RuntimeError(f"a follower was refused: {answer!r}")
    kind = ""
    while line := await reader.readline():
        name, _, value = line.decode().rstrip("\n").partition(": ")
        match name:
            case "id":
                follower.ids.append(value)
            case "event":
                kind = value
            case "data" if kind == "progress":
                follower.steps.setdefault(int(json.loads(value)["current"]), time.perf_counter())
            case "data" if kind == "done":
                follower.done_at = time.perf_counter()
                break
    writer.close()


def _tell(result: Result, found: dict[str, Any]) -> None:
    followers: list[Follower] = found["followers"]
    before, rss, peak = found["rss"]
    each_kib = 1024 * (rss - before) / len(followers)
    lags = delays(found["sent"], [follower.steps for follower in followers])
    ends = [follower.done_at - found["ended"] for follower in followers if follower.done_at is not None]
    missed = len(followers) * len(found["sent"]) - len(lags)
    moves = [[one for one in follower.ids if "." not in one] for follower in followers]
    exact = sum(ids == found["events"] for ids in moves)
    result.aims += [
        Aim(
            what="streams with exactly the event table",
            aim="all",
            measured=f"{exact} of {len(followers)}",
            met=exact == len(followers),
        ),
        Aim(what="RSS of a follower", aim="< 200 KiB", measured=f"{each_kib:.0f} KiB", met=each_kib < 200),
        Aim(
            what="delay of an update, p99",
            aim="< 500 ms",
            measured=f"{ms(quantile(lags, 0.99))} ms",
            met=quantile(lags, 0.99) < 0.5,
        ),
    ]
    rows = [
        ("service RSS before", f"{before:.0f} MiB"),
        (f"with {len(followers)} followers", f"{rss:.0f} MiB"),
        ("after the beats", f"{peak:.0f} MiB"),
        ("CPU of the service, nothing happens", f"{found['cpu'][0]:.1f} % of a core"),
        ("five updates a second", f"{found['cpu'][1]:.1f} % of a core"),
        ("beat to `progress`, p50", f"{ms(median(lags))} ms"),
        ("p99", f"{ms(quantile(lags, 0.99))} ms"),
        ("worst", f"{ms(max(lags))} ms"),
        ("updates overtaken by a newer one", f"{missed} of {len(followers) * len(found['sent'])}"),
        ("report of the end to `done`, p50", f"{ms(median(ends))} ms"),
        ("p99 of that", f"{ms(quantile(ends, 0.99))} ms"),
    ]
    result.tables.append((f"{len(followers)} followers of one request", ("what", "figure"), rows))
    result.samples["followers"] = {
        "rss_mib": found["rss"],
        "delay_ms": shares(lags),
        "done_ms": [ms(each) for each in ends],
    }


if __name__ == "__main__":
    main()
