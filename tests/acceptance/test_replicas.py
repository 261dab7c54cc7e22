"""Two replicas, either of which may die at any moment: each request is done exactly once (A7)."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest
from sqlalchemy import text
from stage import Replicas, echo, until

from orchestrator.store.database import Tx

NAME = "twins"
CLIENTS = 16


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


class Deaths:
    """One replica after another is killed and started again, the next when the last is back."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._one = threading.Lock()
        self.killed: list[str] = []

    def next(self) -> None:
        with self._one:
            replica = random.choice(self._replicas.both)
            replica.kill()
            self.killed.append(replica.url)
            replica.begin()
            replica.await_ready()


@pytest.mark.parametrize(("count", "kills"), [(120, 2), pytest.param(1000, 4, marks=pytest.mark.long)])
def test_requests_survive_dying_replicas_and_are_done_once_each(replicas: Replicas, count: int, kills: int) -> None:
    replicas.client.apply_template(echo(NAME, ranks=2, min=2, max=2))
    until(lambda: sum(gang.state == "idle" for gang in replicas.gangs(NAME)) == 2, "two gangs are idle")
    begun = time.monotonic()
    headers = {"Authorization": f"Bearer {replicas.token}"}
    deaths = Deaths(replicas)
    blows = {count * blow // (kills + 1) for blow in range(1, kills + 1)}

    def submit_or_kill_first(http: httpx.Client, number: int) -> str:
        if number in blows:
            deaths.next()
        return submit(http, replicas, number)

    with (
        httpx.Client(headers=headers, trust_env=False, timeout=10) as http,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        acked = list(clients.map(partial(submit_or_kill_first, http), range(count)))
    until(lambda: not replicas.look(still_open), "all requests are terminal")
    print(f"{count} requests in {time.monotonic() - begun:.1f} s, {len(deaths.killed)} replicas killed")
    assert len(deaths.killed) == kills
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
