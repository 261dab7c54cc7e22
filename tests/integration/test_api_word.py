"""The parked question of a busy gang."""

from __future__ import annotations

import threading
import time
from typing import Any

import builders as make
import pytest
from http_gang import HttpGang, gang_in
from replica import Replica

from orchestrator.store import requests
from orchestrator.store.database import Record


@pytest.fixture
def pool(here: Replica) -> Record:
    return here.database.transact(lambda tx: make.pool(tx))


@pytest.fixture
def gang(here: Replica, pool: Record) -> HttpGang:
    return gang_in(here, pool).begin()


@pytest.fixture
def lease(here: Replica, pool: Record, gang: HttpGang) -> dict[str, Any]:
    here.database.transact(lambda tx: [make.queued(tx, pool), make.assign(tx, pool)])
    return gang.lease()


def ask(gang: HttpGang, lease: dict[str, Any], wait: float = 0) -> Any:
    return gang.call("GET", f"/attempts/{lease['attempt']}/word?wait={wait}")


def test_the_word_follows_the_request(here: Replica, gang: HttpGang, lease: dict[str, Any]) -> None:
    gang.beat(lease)
    assert ask(gang, lease).json() == {"word": "continue"}
    here.database.transact(lambda tx: requests.cancel(tx, "default", lease["request"]))
    assert ask(gang, lease).json() == {"word": "cancel"}
    gang.finish(lease, outcome="canceled", result=None)
    assert ask(gang, lease).json() == {"word": "over"}


def test_a_parked_question_is_answered_when_the_attempt_ends(gang: HttpGang, lease: dict[str, Any]) -> None:
    gang.beat(lease)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(ask(gang, lease, wait=20).json()))
    began = time.monotonic()
    asking.start()
    gang.finish(lease)
    asking.join(15)
    assert answers == [{"word": "over"}]
    assert time.monotonic() - began < 10


def test_only_the_incarnation_of_the_attempt_may_ask(here: Replica, pool: Record, lease: dict[str, Any]) -> None:
    other = gang_in(here, pool).begin()
    answer = ask(other, lease)
    assert (answer.status_code, answer.json()["code"]) == (409, "stale_lease")
