"""U6. What an open page costs: 1,000 browsers on one request's page, and how late an update reaches them."""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from benchmarks import machine
from benchmarks.figures import median, ms, quantile
from benchmarks.pages import Browser
from benchmarks.results import Aim, Result
from benchmarks.stand import Stand
from benchmarks.watched import LOADED, Watched, delays, measured, shares, until

METHOD = """
One gang that exists as a row only runs one request. One other process opens a connection for each viewer and reads what
the request's page reads (its `data-live`): server-sent events with the whole live part in each. The same process is the
gang's rank 0 and beats with a new step every second. RSS is that of the one service process: before the first viewer,
and when all have been looking for some seconds. Delay: from before the POST of the beat to the moment at which a viewer
has read an event with its step; a page is rendered at most every 0.4 s, and the share of the reading process, which
wakes once for every viewer, is in it.
"""
TEMPLATE = "viewed"
FIRST_STEP = 70_000
"""Steps are told apart from all other numbers of the page."""
_STEP = re.compile(rb"\b(7\d{4})\b")
_LIVE = re.compile(r'data-live="([^"]+)"')


@dataclass
class Viewer:
    """What one of them read."""

    steps: dict[int, float] = field(default_factory=dict)
    """When each step was first read."""
    events: int = 0
    bytes: int = 0


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=1000)
    parser.add_argument("--beats", type=int, default=30)
    options, load = machine.when_quiet(parser, argv)
    result = Result(name="viewers", title="Viewers", method=METHOD, load_before=load)
    found = measured(
        TEMPLATE,
        FIRST_STEP,
        lambda watched: _measure(watched, options.viewers, options.beats),
        {"MUSTER_MAX_WAITS": str(options.viewers + 100)},
    )
    _tell(result, found)
    if load > machine.QUIET_LOAD:
        result.notes.append(LOADED.format(load=load))
    result.write()


async def _measure(watched: Watched, count: int, beats: int) -> dict[str, Any]:
    browser = Browser(watched.muster.url)
    browser.sign_in(watched.muster.token)
    live = _address_of_news(browser, watched.request)
    before = watched.rss_mib()
    viewers = [Viewer() for _ in range(count)]
    tasks = [asyncio.create_task(_view(watched.muster, browser, live, viewer)) for viewer in viewers]
    await until(lambda: all(viewer.events for viewer in viewers), "all see the page")
    await asyncio.sleep(5)
    rss = watched.rss_mib()
    sent, busy = await watched.beat_each(range(FIRST_STEP + 1, FIRST_STEP + beats + 1), every_s=1)
    await asyncio.sleep(2)
    peak = watched.rss_mib()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await watched.finish()
    return {"viewers": viewers, "sent": sent, "rss": (before, rss, peak), "cpu": busy}


def _address_of_news(browser: Browser, request: str) -> str:
    status, page = browser.get(f"/ui/requests/{request}")
    found = _LIVE.search(page.decode())
    if status != 200 or found is None:
        raise RuntimeError(f"the page of {request} has no live part: {status}")
    return found[1].replace("&amp;", "&")


async def _view(muster: Stand, browser: Browser, live: str, viewer: Viewer) -> None:
    """Read one stream until canceled, with as little work as it takes."""
    place = urlsplit(muster.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=2**20)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    head = f"GET {live} HTTP/1.1\r\nHost: {place.netloc}\r\nAccept: text/event-stream\r\nCookie: {cookies}\r\n\r\n"
    writer.write(head.encode())
    try:
        if b" 200 " not in (answer := await reader.readuntil(b"\r\n\r\n")):
            raise RuntimeError(f"a viewer was refused: {answer!r}")
        while True:
            event = await reader.readuntil(b"\n\n")
            viewer.bytes += len(event)
            if b"event: news" in event:
                viewer.events += 1
                for step in set(_STEP.findall(event)):
                    viewer.steps.setdefault(int(step), time.perf_counter())
    finally:
        writer.close()


def _tell(result: Result, found: dict[str, Any]) -> None:
    viewers: list[Viewer] = found["viewers"]
    before, rss, peak = found["rss"]
    each_kib = 1024 * (peak - before) / len(viewers)
    lags = delays(found["sent"], [viewer.steps for viewer in viewers])
    late, worst = quantile(lags, 0.99), max(lags)
    seen = len(lags) / (len(viewers) * len(found["sent"]))
    result.aims += [
        Aim(what="RSS of a viewer", aim="< 200 KiB", measured=f"{each_kib:.0f} KiB", met=each_kib < 200),
        Aim(what="delay of an update, p99", aim="< 2 s", measured=f"{ms(late)} ms", met=late < 2),
        Aim(what="updates that viewers saw", aim="> 95 %", measured=f"{100 * seen:.1f} %", met=seen > 0.95),
    ]
    rows = [
        ("service RSS before", f"{before:.0f} MiB"),
        (f"with {len(viewers)} viewers", f"{rss:.0f} MiB"),
        ("after the beats", f"{peak:.0f} MiB"),
        ("CPU of the service, an update a second", f"{found['cpu']:.1f} % of a core"),
        ("beat to the page, p50", f"{ms(median(lags))} ms"),
        ("p99", f"{ms(late)} ms"),
        ("worst", f"{ms(worst)} ms"),
        ("bytes of an event", f"{sum(v.bytes for v in viewers) // max(1, sum(v.events for v in viewers))}"),
    ]
    result.tables.append((f"{len(viewers)} viewers of one request's page", ("what", "figure"), rows))
    result.samples["viewers"] = {"rss_mib": found["rss"], "delay_ms": shares(lags)}


if __name__ == "__main__":
    main()
