"""Races for tests: several works that start at the same moment, and a moment at which one waits for another's lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import text

from orchestrator.store.database import Database, Tx

T = TypeVar("T")


def together(works: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """What each work returned or raised; none begins before all are there."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], T]) -> T | Exception:
        barrier.wait(timeout=30)
        try:
            return work()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(run, works))


@contextmanager
def behind(database: Database, first: Callable[[Tx], Any], second: Callable[[], T]) -> Iterator[Future[T]]:
    """`first` did its work but has not committed while `second` already waits for its locks; then it commits."""
    with ThreadPoolExecutor(1) as thread:
        with database._engine.begin() as tx:
            first(tx)
            waiting = thread.submit(second)
            eventually(lambda: waiting.done() or _somebody_waits(database))
            assert not waiting.done(), "the second did not wait for the first"
        yield waiting


def _somebody_waits(database: Database) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(database.transact(lambda tx: tx.execute(text(query)).scalar_one()))


def eventually(read: Callable[[], T], within_s: float = 60.0) -> T:
    """The first true value of `read`: for effects that have no signal of their own."""
    deadline = time.monotonic() + within_s
    while not (value := read()):
        assert time.monotonic() < deadline, f"it did not happen within {within_s} s"
        time.sleep(0.005)
    return value
