"""The start of a gang: what is checked and tried before it takes work, and what is said when that goes wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_service import Gang, ScriptedService, eventually

RANKS = 2
HANDLER = f"{Path(__file__).with_name('slow_start.py')}:SlowStart"


class Starts:
    """Gangs of one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[Any] = []

    def start(self, args: dict[str, Any] | None = None, **config: Any) -> ScriptedService:
        variables = config.pop("variables", {})
        base = {"handler": HANDLER, "args": args or {}, "data_timeout_s": 60.0}
        service = ScriptedService(self._folder, {**base, **config})
        self._open += [service, Gang(service, self._folder, ranks=RANKS, restarts=0, **variables)]
        return service

    def close(self) -> None:
        for one in reversed(self._open):
            one.kill() if isinstance(one, Gang) else one.close()


@pytest.fixture
def starts(tmp_path: Path) -> Iterator[Starts]:
    starts = Starts(tmp_path)
    yield starts
    starts.close()


def first_error(service: ScriptedService) -> dict[str, Any]:
    errors = eventually(lambda: service.errors, 60, "an error")
    assert not service.ready
    return dict(errors[0])


def test_a_gang_is_checked_and_warm_before_it_is_ready(starts: Starts, tmp_path: Path) -> None:
    service = starts.start(
        preflight={"nodes": 1, "ranks_per_node": RANKS, "min_free_mb": 1, "min_mb_per_s": 0.001},
        warmup={"input": {}},
    )
    service.wait_ready()
    told = service.told_ready[0]
    assert list(told["seconds"]) == ["import", "rendezvous", "preflight", "setup", "warmup"]
    assert told["link"]["latency_ms"] > 0
    assert told["link"]["mb_per_s"] > 0
    assert told["seconds"]["preflight"] < 5
    assert not any(beat["attempts"] for beat in service.beats)
    assert service.finished(service.submit())["result"]["runs"] == 2
    assert not list((tmp_path / "scratch").glob("warmup*/*"))


@pytest.mark.parametrize(
    ("preflight", "message"),
    [
        pytest.param({"min_free_mb": 1 << 30}, "MB free", id="too little memory", marks=pytest.mark.long),
        pytest.param({"ranks_per_node": 4}, "the template says 4", id="another shape"),
        pytest.param({"min_mb_per_s": 1e12}, "MB/s", id="too slow a link", marks=pytest.mark.long),
    ],
)
def test_a_gang_that_is_not_as_the_template_says_never_becomes_ready(
    starts: Starts, preflight: dict[str, Any], message: str
) -> None:
    error = first_error(starts.start(preflight=preflight))
    assert (error["rank"], error["node"], error["phase"], error["exiting"]) == (0, "n0", "preflight", True)
    assert message in error["message"]


@pytest.mark.long
def test_a_rank_that_never_joins_is_named(starts: Starts, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\n"
        "parent = os.getppid()\n"
        "while os.environ.get('RANK') == '1' and os.getppid() == parent:\n"
        "    time.sleep(0.1)\n"
    )
    error = first_error(starts.start(variables={"PYTHONPATH": str(tmp_path), "MUSTER_JOIN_S": "6"}))
    assert (error["rank"], error["node"], error["phase"]) == (1, "n0", "preflight")
    assert "rank 1 did not join within 6 s" in error["message"]


@pytest.mark.long
def test_a_setup_that_stands_still_is_told_with_the_stacks_of_all_ranks(starts: Starts) -> None:
    error = first_error(starts.start({"hang_on_rank": 1}, setup_timeout_s=2.0))
    assert (error["rank"], error["phase"], error["attempt"]) == (1, "setup", None)
    assert "setup took longer than 2 s: rank 1 holds the gang up" in error["message"]
    assert [stack["rank"] for stack in error["stacks"]] == [0, 1]
    assert "slow_start.py" in error["traceback"]
    assert "all_reduce" in error["stacks"][0]["stack"]


def test_a_warm_up_that_fails_is_told_with_its_traceback(starts: Starts) -> None:
    error = first_error(starts.start(warmup={"input": {"fail_on_rank": 1}}))
    assert (error["rank"], error["phase"], error["attempt"]) == (1, "warmup", None)
    assert error["message"] == "rank 1 cannot warm up"
    assert "slow_start.py" in error["traceback"]
