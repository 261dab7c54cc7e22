"""Waiting for a GPU that may never come back, with a driver of our own."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from inference import gpu
from inference.gpu import Gpu


class Driver:
    """What the GPU has done, and what it was waited for."""

    def __init__(self) -> None:
        self.recorded = 0
        self.waited_for: list[int] = []
        self.stands = threading.Event()
        self.stands.set()
        self.idle = True

    def event(self, blocking: bool) -> Any:
        return Mark(self)

    def synchronize(self, device: torch.device) -> None:
        assert self.stands.wait(20)

    def default_stream(self, device: torch.device) -> Any:
        return self

    def query(self) -> bool:
        assert self.stands.wait(20)
        return self.idle


class Mark:
    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.number = -1

    def record(self) -> None:
        self.number = self.driver.recorded
        self.driver.recorded += 1

    def synchronize(self) -> None:
        self.driver.waited_for.append(self.number)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    driver = Driver()
    monkeypatch.setattr(torch.cuda, "Event", driver.event)
    monkeypatch.setattr(torch.cuda, "synchronize", driver.synchronize)
    monkeypatch.setattr(torch.cuda, "default_stream", driver.default_stream)
    monkeypatch.setattr(gpu, "LOOK_S", 0.05)
    yield driver
    driver.stands.set()


@pytest.fixture
def there(driver: Driver) -> Gpu:
    return Gpu(torch.device("cuda", 0))


def test_a_rank_on_the_processor_has_nothing_to_wait_for(driver: Driver) -> None:
    driver.stands.clear()
    nothing = Gpu(torch.device("cpu"))
    nothing.keep_pace()
    assert not nothing.is_busy()
    assert nothing.is_done_within(0)
    assert driver.recorded == 0


def test_the_process_runs_one_vote_ahead_of_the_gpu(driver: Driver, there: Gpu) -> None:
    for _ in range(4):
        there.keep_pace()
    assert driver.waited_for == [0, 1, 2]
    there.forget()
    there.keep_pace()
    assert driver.waited_for == [0, 1, 2]


def test_a_gpu_with_work_left_is_busy_and_one_without_is_not(driver: Driver, there: Gpu) -> None:
    assert not there.is_busy()
    driver.idle = False
    assert there.is_busy()


def test_a_gpu_that_stands_still_is_busy_and_never_done(driver: Driver, there: Gpu) -> None:
    assert there.is_done_within(5)
    driver.stands.clear()
    assert there.is_busy()
    assert not there.is_done_within(0.05)
