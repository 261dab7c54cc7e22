"""A cancel ends a request wherever it is, costs its gang nothing, and never undoes a result."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from stage import QUAD, Up

LONG = {"sleep_s": 30, "steps": 300}


def test_a_queued_request_is_canceled_at_once(service: Up) -> None:
    service.idle_gang(QUAD)
    ahead = service.client.submit(QUAD, LONG, mode="warm")
    waiting = service.client.submit(QUAD, {}, mode="warm")
    assert service.client.cancel(waiting.id).status == "canceled"
    assert service.moves(waiting.id) == ["record", "cancel"]
    service.client.cancel(ahead.id)
    service.done(ahead.id)


def test_a_running_request_stops_at_a_step_and_its_gang_serves_on(service: Up) -> None:
    gang = service.idle_gang(QUAD)
    request = service.client.submit(QUAD, LONG)
    service.running(request.id, past_step=3)
    asked = time.monotonic()
    assert service.client.cancel(request.id).status == "canceling"
    canceled = service.done(request.id)
    assert canceled.status == "canceled"
    assert time.monotonic() - asked < 15  # a beat, a step; it would run for 30
    assert service.moves(request.id) == ["record", "assign", "start", "ask_cancel", "end_cancel"]
    following = service.run(QUAD)
    assert gang.ranks is not None
    assert following.result["pids"] == [rank.pid for rank in gang.ranks]
    assert service.idle_gang(QUAD).incarnation == gang.incarnation


@pytest.mark.parametrize("lead_s", [0.0, 0.004, 0.015])
def test_of_a_cancel_and_a_finish_that_race_one_wins_and_the_answer_says_which(service: Up, lead_s: float) -> None:
    service.idle_gang(QUAD)
    ends = Counter(race(service, lead_s) for _ in range(15))
    print(f"{lead_s * 1000:g} ms: {dict(ends)}")
    assert set(ends) <= {("succeeded", "succeeded"), ("canceling", "canceled"), ("canceled", "canceled")}


def race(service: Up, lead_s: float) -> tuple[str, str]:
    """What the cancel answered, and how the request ended."""
    request = service.client.submit(QUAD, {})
    threading.Event().wait(lead_s)
    answer = service.client.cancel(request.id)
    ended = service.done(request.id)
    assert service.moves(request.id).count("succeed") == (ended.status == "succeeded")
    return answer.status, ended.status
