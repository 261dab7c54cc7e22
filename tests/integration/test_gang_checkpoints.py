"""A request that loses its gang goes on from its last checkpoint, and comes out as if nothing had happened."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from scripted_service import Gang, ScriptedService, eventually, kill_rank

pytestmark = pytest.mark.slow
EVERY = 5
ASKED: dict[str, Any] = {"digit": 7, "seed": 11, "steps": 120, "count": 2}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedService]:
    folder = tmp_path_factory.mktemp("digits")
    config = {"handler": "inference.samples.digits.handler:Digits", "args": {"checkpoint_every": EVERY}}
    service = ScriptedService(folder, config | {"data_timeout_s": 20.0})
    gang = Gang(service, folder, ranks=2, restarts=20)
    try:
        service.wait_ready()
        yield service
    finally:
        gang.kill()
        service.close()


def kept(service: ScriptedService, attempt: str) -> list[Path]:
    """The manifests of a request's checkpoints."""
    prefix = Path(urlsplit(service.granted[attempt]["output_prefix"]).path)
    return sorted((prefix.parent / "checkpoints").glob("*/manifest.json"))


@pytest.mark.long
def test_a_request_killed_three_times_gives_the_same_output_and_leaves_no_checkpoint(digits: ScriptedService) -> None:
    whole = digits.finished(digits.submit(**ASKED))
    first = attempt = digits.submit(**ASKED)
    starts = []
    for number in (2, 3, 4):
        behind = len(kept(digits, first)) and kept(digits, first)[-1]
        eventually(lambda behind=behind: (now := kept(digits, first)) and now[-1] != behind, 20, "a checkpoint")
        incarnation = digits.incarnation
        starts.append(int(kept(digits, first)[-1].parent.name.partition("-")[0]))
        kill_rank(digits, random.choice((0, 1)))
        digits.wait_ready(after=incarnation)
        assert attempt not in digits.finishes
        attempt = digits.again(first, number)
    finish = digits.finished(attempt)
    assert finish["outcome"] == "succeeded"
    assert finish["result"] == whole["result"]
    assert [one["sha256"] for one in finish["outputs"]] == [one["sha256"] for one in whole["outputs"]]
    assert starts == sorted(set(starts))
    eventually(lambda: not kept(digits, first), 5, "the end of its checkpoints")
