"""A request that runs on a gang that nobody launched, for benchmarks of those who look at it: we are its rank 0."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil

from benchmarks import crowd, stand
from benchmarks.figures import ms, quantile
from benchmarks.stand import Stand
from benchmarks.wire import AsyncLine

T = TypeVar("T")

LOADED = (
    "The load average was {load:.1f} before: other work held the cores, and the delays are those of such a machine."
)
SETTLED_S = 3.0
"""From the first beat on, before the service's memory is read."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The request, its service and its lease."""

    muster: Stand
    request: str
    client: AsyncLine
    worker: AsyncLine
    gang: crowd.Pretender
    lease: dict[str, Any]
    process: psutil.Process

    async def beat(self, step: int) -> None:
        pulse = {"phase": "run", "current": step, "total": 1000}
        pulse |= {name: self.lease[name] for name in ("attempt", "token")}
        beat = {"phase": "run", "ranks": [], "attempts": [pulse]}
        await self.worker.good("POST", f"/internal/v1/gangs/{self.gang.id}/beat", beat)

    async def beat_each(self, steps: Iterable[int], every_s: float) -> tuple[dict[int, float], float]:
        """When each step was sent (`perf_counter`), and the CPU that the service took, in percent of a core."""
        sent: dict[int, float] = {}

        async def beats() -> None:
            for step in steps:
                sent[step] = time.perf_counter()
                await self.beat(step)
                await asyncio.sleep(every_s)

        return sent, await self.cpu_during(beats())

    async def cpu_during(self, work: Awaitable[None]) -> float:
        """What the service took while the work went on, in percent of a core."""
        before, begun = self._cpu_s(), time.monotonic()
        await work
        return 100 * (self._cpu_s() - before) / (time.monotonic() - begun)

    def rss_mib(self) -> float:
        """Of the service."""
        return float(self.process.memory_info().rss / 2**20)

    async def finish(self) -> None:
        await crowd.finish(self.worker, self.lease)

    def _cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


def measured(
    template: str,
    first_step: int,
    measure: Callable[[Watched], Awaitable[T]],
    settings: Mapping[str, str] | None = None,
) -> T:
    """What `measure` finds out about a request that has begun."""
    settings = {"MUSTER_LEASE": "3600", "MUSTER_BEAT": "600", **(settings or {})}
    with stand.postgres() as url, stand.service(url, **settings) as muster:
        muster.apply(template, like="echo", ranks_per_node=4, pool=crowd.policy(1))
        gang = crowd.pretend(muster.database, template, 1)[0]

        async def run() -> T:
            return await measure(await _begun(muster, gang, template, first_step))

        return asyncio.run(run())


async def _begun(muster: Stand, gang: crowd.Pretender, template: str, step: int) -> Watched:
    client = await AsyncLine(muster.url, muster.token).open()
    worker = await crowd.connect(muster, gang)
    request = (await client.good("POST", "/v1/requests", {"template": template}))["id"]
    lease = (await crowd.poll(worker, gang))[0]
    process = psutil.Process(muster.pid)
    watched = Watched(
        muster=muster, request=request, client=client, worker=worker, gang=gang, lease=lease, process=process
    )
    await watched.beat(step)
    await asyncio.sleep(SETTLED_S)
    return watched


async def until(look: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + within_s
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(0.05)


def delays(sent: Mapping[int, float], seen: Iterable[Mapping[int, float]]) -> list[float]:
    """Seconds from each step's beat to each of those who saw it."""
    return [steps[step] - at for step, at in sent.items() for steps in seen if step in steps]


def shares(delays: list[float]) -> list[float]:
    """Each percentile, in ms."""
    return [ms(quantile(delays, share / 100)) for share in range(1, 101)]
