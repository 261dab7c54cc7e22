"""Gangs that stand still or lose a rank without a word: who is named, with which stacks, and what comes after."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_service import Gang, ScriptedService, eventually

pytestmark = pytest.mark.slow
RANKS = 3


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedService]:
    folder = tmp_path_factory.mktemp("failing")
    config = {"handler": "inference.samples.failing:Failing", "data_timeout_s": 60.0}
    service = ScriptedService(folder, config)
    gang = Gang(service, folder, ranks=RANKS, restarts=20)
    try:
        service.wait_ready()
        yield service
    finally:
        gang.kill()
        service.close()


def fatal(service: ScriptedService, **how: Any) -> dict[str, Any]:
    """The first error that ends the incarnation; the gang is whole again afterwards and serves."""
    before, incarnation = len(service.errors), service.incarnation
    service.submit(**how)
    error: dict[str, Any] = eventually(
        lambda: next((error for error in service.errors[before:] if error["exiting"]), None), 60, "an error"
    )
    service.wait_ready(after=incarnation)
    assert service.finished(service.submit())["outcome"] == "succeeded"
    return error


def test_a_rank_that_holds_the_interpreter_lock_is_named_by_its_neighbours(failing: ScriptedService) -> None:
    error = fatal(failing, how="hang_with_lock", on_rank=2, no_progress_s=2)
    assert (error["rank"], error["code"], error["step"]) == (2, "no_progress", 2)
    assert "holds the interpreter lock" in error["message"]
    assert "in hang_with_lock" in error["traceback"]
    assert [stack["rank"] for stack in error["stacks"]] == [0, 1, 2]
    assert all("all_reduce" in stack["stack"] for stack in error["stacks"][:2])


@pytest.mark.long
def test_a_rank_that_never_joins_a_collective_is_named_and_not_those_that_wait_for_it(
    failing: ScriptedService,
) -> None:
    error = fatal(failing, how="never_join", on_rank=1, no_progress_s=2)
    assert (error["rank"], error["code"]) == (1, "no_progress")
    assert "control.vote" in error["traceback"]
    assert len(error["stacks"]) == RANKS


def test_a_crash_is_told_by_the_neighbours_with_its_signal_and_stack(failing: ScriptedService) -> None:
    error = fatal(failing, how="crash", on_rank=1)
    assert (error["rank"], error["type"], error["code"]) == (1, "SIGSEGV", "rank_failed")
    assert "in crash" in error["traceback"]


def test_rank_0_may_be_the_one_that_is_killed(failing: ScriptedService) -> None:
    error = fatal(failing, how="killed", on_rank=0)
    assert (error["rank"], error["code"]) == (0, "rank_failed")


@pytest.mark.long
@pytest.mark.parametrize(("nodes", "rank"), [(1, 0), (2, 1)])
def test_a_rank_that_is_alone_on_its_node_is_named_by_its_agent(tmp_path: Path, nodes: int, rank: int) -> None:
    config = {"handler": "inference.samples.failing:Failing", "data_timeout_s": 60.0}
    service = ScriptedService(tmp_path, config)
    gang = Gang(service, tmp_path, ranks=1, nodes=nodes)
    try:
        service.wait_ready()
        error = fatal(service, how="killed", on_rank=rank)
        assert (error["rank"], error["node"], error["type"]) == (rank, f"n{rank}", "SIGKILL")
        assert error["code"] == "rank_failed" and "killed by SIGKILL" in error["message"]
    finally:
        gang.kill()
        service.close()
