"""procrastinate (a Postgres job queue for Python) runs jobs that do nothing. Prints seconds as one line of JSON.

Arguments: a libpq URL of an empty or prepared database, the number of jobs, the worker's concurrency.
`drain`: the jobs were deferred before, in one batch. `whole`: they are deferred one by one while the worker runs.
"""

import asyncio
import json
import logging
import sys
import time

import procrastinate

DEFERRERS = 16

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=sys.argv[1], max_size=20))


@app.task(name="nothing")
async def nothing(text: str) -> None:
    return


async def _prepare() -> None:
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()


async def _drain(jobs: int, concurrency: int) -> float:
    async with app.open_async():
        await nothing.batch_defer_async(*[{"text": "x"}] * jobs)
        begun = time.perf_counter()
        await app.run_worker_async(wait=False, concurrency=concurrency, install_signal_handlers=False)
        return time.perf_counter() - begun


async def _whole(jobs: int, concurrency: int) -> float:
    done = 0
    over = asyncio.Event()

    @app.task(name="counted")
    async def counted(text: str) -> None:
        nonlocal done
        done += 1
        if done == jobs:
            over.set()

    async def defer(count: int) -> None:
        for _ in range(count):
            await counted.defer_async(text="x")

    async with app.open_async():
        worker = asyncio.create_task(app.run_worker_async(concurrency=concurrency, install_signal_handlers=False))
        begun = time.perf_counter()
        await asyncio.gather(*[defer(jobs // DEFERRERS) for _ in range(DEFERRERS)])
        await asyncio.wait_for(over.wait(), 120)
        seconds = time.perf_counter() - begun
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        return seconds


def main() -> None:
    logging.disable(logging.CRITICAL)
    jobs, concurrency = int(sys.argv[2]) // DEFERRERS * DEFERRERS, int(sys.argv[3])
    asyncio.run(_prepare())
    seconds = {"drain": asyncio.run(_drain(jobs, concurrency)), "whole": asyncio.run(_whole(jobs, concurrency))}
    print(json.dumps({"jobs": jobs, **seconds}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
