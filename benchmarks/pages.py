"""U5. What the pages cost in a crowded installation: the server's time for each, and how often it asks the database."""

from __future__ import annotations

import argparse
import asyncio
import http.client
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode, urlsplit

import httpx
from sqlalchemy import Connection, Engine, event

from benchmarks import crowded, machine, stand
from benchmarks.crowded import Size, Used
from benchmarks.figures import ms, quantile
from benchmarks.results import Aim, Result
from benchmarks.stand import Stand
from orchestrator.api.office import Office
from orchestrator.settings import Settings
from orchestrator.store.database import Database
from orchestrator.store.prepared import Prepared
from orchestrator.store.wakeups import Notifier
from orchestrator.web import site

METHOD = """
`muster up` over a Postgres with 100,000 requests that ended, 2,500 that wait, and 500 gangs in ten pools, each with a
request that runs; a batch of 1,000 items and a schedule. One kept-alive connection of one process loads each page again
and again, all pages in turn; the time is from the first byte sent to the last byte read. Statements are
counted in this process, with the same application over the same database, and again over a database with a few rows of
each kind: a page that asks once per row shows another number there.
"""
LOADED = "The load average was {load:.1f} before: other work held the cores."
AIM_MS = 300.0
FEW = Size(ended=12, queued=2, gangs=2, pools=2, items=3)


@dataclass(frozen=True, kw_only=True)
class Page:
    name: str
    path: str


def pages(used: Used) -> list[Page]:
    """Every page, with what is heaviest to show."""
    paths = {
        "overview": "/",
        "requests": "/requests",
        "requests, failed": "/requests?status=failed",
        "requests of a label": "/requests?q=team%3Dred",
        "requests with a value": "/requests?q=red",
        "request that succeeded": f"/requests/{used.succeeded}",
        "request that failed": f"/requests/{used.failed}",
        "request that waits": f"/requests/{used.queued}",
        "request that runs": f"/requests/{used.running}",
        "pools": "/pools",
        "pool": f"/pools/{used.template}",
        "gangs": "/gangs",
        "gang": f"/gangs/{used.gang}",
        "templates": "/templates",
        "template": f"/templates/{used.template}",
        "submit": f"/templates/{used.template}/submit",
        "batches": "/batches",
        "batch": f"/batches/{used.batch}",
        "schedules": "/schedules",
        "schedule": f"/schedules/{used.schedule}",
    }
    return [Page(name=name, path=path) for name, path in paths.items()]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=int, default=60, help="of each page")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--gangs", type=int, default=500)
    options, load = machine.when_quiet(parser, argv)
    result = Result(name="pages", title="Pages", method=METHOD, load_before=load)
    crowd = Size(ended=options.requests, queued=options.requests // 40, gangs=options.gangs, pools=10, items=1000)
    times, sizes, many = _measure(crowd, options.loads)
    _, _, few = _measure(FEW, 0)
    _tell(result, times, sizes, many, few)
    if load > machine.QUIET_LOAD:
        result.notes.append(LOADED.format(load=load))
    result.write()


def _measure(size: Size, loads: int) -> tuple[dict[str, list[float]], dict[str, int], dict[str, int]]:
    with stand.postgres() as url, stand.service(url, MUSTER_LEASE="3600", MUSTER_BEAT="600") as muster:
        used = crowded.fill(muster, size)
        muster.database.transact(lambda tx: tx.exec_driver_sql("ANALYZE"))
        times, sizes = _load(muster, pages(used), loads)
        return times, sizes, _count(url, muster.token, pages(used))


# ----------------------------------------------------------------------------------------------------------------- time


def _load(muster: Stand, shown: list[Page], loads: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    browser = Browser(muster.url)
    browser.sign_in(muster.token)
    times: dict[str, list[float]] = {page.name: [] for page in shown}
    sizes: dict[str, int] = {}
    for turn in range(loads + 1):
        for page in shown:
            begun = time.perf_counter()
            status, body = browser.get(f"/ui{page.path}")
            took = time.perf_counter() - begun
            if status != 200:
                raise RuntimeError(f"{page.path}: {status} {body[:300]!r}")
            if turn:  # the first fills caches
                times[page.name].append(took)
            sizes[page.name] = len(body)
    return times, sizes


class Browser:
    """One connection with a session."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        self.cookies: dict[str, str] = {}

    def sign_in(self, token: str) -> None:
        self.get("/ui/login")
        headers = {"X-XSRF-TOKEN": self.cookies["XSRF-TOKEN"], "Content-Type": "application/x-www-form-urlencoded"}
        status, body = self._call("POST", "/ui/login", urlencode({"token": token}).encode(), headers)
        if status != 303:
            raise RuntimeError(f"the sign-in: {status} {body!r}")

    def get(self, path: str) -> tuple[int, bytes]:
        return self._call("GET", path, None, {})

    def _call(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self._connection.request(method, path, body, {**headers, "Cookie": cookies})
        answer = self._connection.getresponse()
        for cookie in answer.headers.get_all("set-cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer.status, answer.read()


# ----------------------------------------------------------------------------------------------------------- statements


def _count(url: str, token: str, shown: list[Page]) -> dict[str, int]:
    database = Database(url, connections=2)
    office = Office(
        database=database,
        settings=Settings(folder=stand.ROOT),
        notifier=Notifier(database),
        ring=lambda _: None,
    )
    try:
        return asyncio.run(_visit(office, token, shown))
    finally:
        office.notifier.close()
        database.close()


async def _visit(office: Office, token: str, shown: list[Page]) -> dict[str, int]:
    transport = httpx.ASGITransport(site.application(office))
    counts: dict[str, int] = {}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
        await browser.get("/ui/login")
        proof = {"X-XSRF-TOKEN": browser.cookies["XSRF-TOKEN"]}
        await browser.post("/ui/login", data={"token": token}, headers=proof)
        for page in shown:
            await browser.get(f"/ui{page.path}")  # what is remembered for some seconds is not counted
            with _counting() as statements:
                answer = await browser.get(f"/ui{page.path}")
            if answer.status_code != 200:
                raise RuntimeError(f"{page.path}: {answer.status_code}")
            counts[page.name] = len(statements)
    return counts


@contextmanager
def _counting() -> Iterator[list[str]]:
    """The statements of this process meanwhile."""
    statements: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement)

    def fetched(statement: Prepared, connection: Connection, values: Mapping[str, Any]) -> Any:
        statements.append(statement.plan.execute)  # these pass SQLAlchemy's event by
        return fetch(statement, connection, values)

    fetch = Prepared._fetched
    event.listen(Engine, "before_cursor_execute", note)
    try:
        with patch.object(Prepared, "_fetched", fetched):
            yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


# ------------------------------------------------------------------------------------------------------------- telling


def _tell(
    result: Result, times: dict[str, list[float]], sizes: dict[str, int], many: dict[str, int], few: dict[str, int]
) -> None:
    slowest = max(times, key=lambda name: quantile(times[name], 0.95))
    worst = quantile(times[slowest], 0.95)
    growing = [name for name in many if many[name] > few[name]]
    result.aims += [
        Aim(what="p95 of the slowest page", aim=f"< {AIM_MS:g} ms", measured=f"{ms(worst)} ms ({slowest})",
            met=worst * 1000 < AIM_MS),
        Aim(what="statements with many rows", aim="as many", measured=", ".join(growing) or "as many",
            met=not growing),
    ]  # fmt: skip
    rows = [
        (name, ms(quantile(took, 0.5)), ms(quantile(took, 0.95)), many[name], few[name], f"{sizes[name] / 1024:.0f}")
        for name, took in times.items()
    ]
    columns = ("page", "p50 ms", "p95 ms", "statements", "with few rows", "KiB")
    result.tables.append(("Pages", columns, rows))
    result.samples["ms"] = {name: [ms(each) for each in took] for name, took in times.items()}


if __name__ == "__main__":
    main()
