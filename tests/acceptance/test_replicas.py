"""Two replicas, either of which may die at any moment: each request is done exactly once (A7)."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import text
from stage import Replicas, echo, until

from orchestrator.store.database import Tx

NAME = "twins"
CLIENTS, KILLS = 16, 4


def submit(http: httpx.Client, replicas: Replicas, number: int) -> str:
    """The ID of the request, from whichever replica answers; a repeated try carries the same key."""
    urls = [replica.url for replica in replicas.both]
    random.shuffle(urls)
    while True:
        urls.reverse()
        try:
            answer = http.post(
                f"{urls[0]}/v1/requests",
                json={"template": NAME, "input": {"text": str(number)}, "mode": "warm"},
                headers={"Idempotency-Key": f"number-{number}"},
            )
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if answer.status_code < 300:
            return str(answer.json()["id"])
        assert answer.status_code in (429, 503), answer.text


@contextmanager
def deaths(replicas: Replicas) -> Iterator[list[str]]:
    """One replica after another is killed and started again, the next when the last is back."""
    over, killed = threading.Event(), []

    def kill_and_restart() -> None:
        while len(killed) < KILLS and not over.wait(random.uniform(0.5, 1.5)):
            replica = random.choice(replicas.both)
            replica.kill()
            killed.append(replica.url)
            replica.begin()
            replica.await_ready()

    with ThreadPoolExecutor(1) as thread:
        killing = thread.submit(kill_and_restart)
        try:
            yield killed
        finally:
            over.set()
            killing.result()


@pytest.mark.parametrize("count", [120, pytest.param(1000, marks=pytest.mark.long)])
def test_requests_survive_dying_replicas_and_are_done_once_each(replicas: Replicas, count: int) -> None:
    replicas.client.apply_template(echo(NAME, ranks=2, min=2, max=2))
    until(lambda: sum(gang.state == "idle" for gang in replicas.gangs(NAME)) == 2, "two gangs are idle")
    begun = time.monotonic()
    headers = {"Authorization": f"Bearer {replicas.token}"}
    with (
        httpx.Client(headers=headers, trust_env=False, timeout=10) as http,
        deaths(replicas) as killed,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        acked = list(clients.map(lambda number: submit(http, replicas, number), range(count)))
    until(lambda: not replicas.look(still_open), "all requests are terminal")
    print(f"{count} requests in {time.monotonic() - begun:.1f} s, {len(killed)} replicas killed")
    assert killed
    assert len(set(acked)) == count
    assert replicas.look(ends) == {("succeeded", 1, 1): count}
    assert set(acked) == set(replicas.look(with_result))
    assert [gang.incarnation for gang in replicas.gangs(NAME)] == [1, 1]


def still_open(tx: Tx) -> int:
    return int(tx.execute(text("SELECT count(*) FROM request WHERE finished_at IS NULL")).scalar_one())


def ends(tx: Tx) -> Counter[tuple[str, int, int]]:
    """How often each (state, attempts, results) came about."""
    rows = tx.execute(
        text(
            "SELECT r.state, r.attempts, count(t.request_id) AS results FROM request r"
            " LEFT JOIN result t ON t.request_id = r.id GROUP BY r.id"
        )
    ).all()
    return Counter((row.state, row.attempts, row.results) for row in rows)


def with_result(tx: Tx) -> Sequence[str]:
    return tx.execute(text("SELECT request_id FROM result")).scalars().all()
