"""The sample script, untouched, as a warm service: real torchrun gangs against a scripted service."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from scripted_service import ROOT, Gang, ScriptedService, eventually

pytestmark = pytest.mark.slow
RANKS = 2
SCRIPT = ROOT / "inference/samples/wanlike/generate.py"
GANG_LEVEL = {"ulysses_size": RANKS, "dit_fsdp": True}


def config_of(script: Path, **more: Any) -> dict[str, Any]:
    described = {"path": str(script), "memoise": ["digitvideo:DigitVideo"], "outputs": {"save_file": "video.gif"}}
    return {
        "template": "wanlike",
        "handler": "inference.script.handler:ScriptHandler",
        "args": {"script": described | more, "args": GANG_LEVEL},
        "data_timeout_s": 5.0,
    }


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedService]:
    service = ScriptedService(tmp_path_factory.mktemp("outputs"), config_of(SCRIPT))
    yield service
    service.close()


@pytest.fixture(scope="module")
def gang(service: ScriptedService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gang]:
    gang = Gang(service, tmp_path_factory.mktemp("gang"), ranks=RANKS)
    try:
        service.wait_ready()
        yield gang
    finally:
        gang.kill()


def file_of(finish: dict[str, Any]) -> bytes:
    assert finish["outcome"] == "succeeded", finish["error"]
    (output,) = finish["outputs"]
    return Path(urlsplit(output["uri"]).path).read_bytes()


def run_plainly(script: Path, folder: Path) -> None:
    """Under torchrun alone; leaves five.gif."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}", str(script)]
    command += ["--prompt=a five", "--base_seed=11", f"--ulysses_size={RANKS}", "--dit_fsdp", "--save_file=five.gif"]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    plain = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=90)
    assert plain.returncode == 0, plain.stderr


def lines_of(service: ScriptedService, attempt: str, rank: int, word: str) -> list[str]:
    request = attempt.replace("att", "req")
    return [line for line in service.log_of(request, rank).splitlines() if word in line]


def test_the_model_is_built_once_on_each_rank(service: ScriptedService, gang: Gang) -> None:
    first, second = (service.submit(prompt=f"a {word}", base_seed=3) for word in ("seven", "three"))
    assert service.finished(first)["metrics"] == {"models_built": 1, "models_reused": 0}
    assert service.finished(second)["metrics"] == {"models_built": 0, "models_reused": 1}
    for rank in range(RANKS):
        assert eventually(lambda rank=rank: lines_of(service, first, rank, "builds"), 5)
        assert not lines_of(service, second, rank, "builds")


def test_prompt_and_random_seed_are_the_same_on_all_ranks(service: ScriptedService, gang: Gang) -> None:
    seeds = set()
    for _ in range(2):
        attempt = service.submit(prompt="a two")
        service.finished(attempt)
        said = [_draws(service, attempt, rank) for rank in range(RANKS)]
        assert said[0].removeprefix("rank 0") == said[1].removeprefix("rank 1")
        seeds.add(said[0])
    assert len(seeds) == 2  # and another one for each request, as in a fresh process


@pytest.mark.long
def test_a_script_that_knows_muster_needs_no_template_that_knows_it(tmp_path: Path) -> None:
    script = SCRIPT.with_name("generate_l1.py")
    service = ScriptedService(tmp_path / "outputs", config_of(script, memoise=[]))
    gang = Gang(service, tmp_path, ranks=RANKS)
    try:
        service.wait_ready()
        first, second = (service.finished(service.submit(prompt="a five", base_seed=11)) for _ in range(2))
        assert second["metrics"] == {"models_built": 0, "models_reused": 1}
        assert second["result"] == {"prompt": "a five", "seed": 11}
        warm = file_of(second)
        assert file_of(first) == warm
    finally:
        gang.kill()
        service.close()
    run_plainly(script, tmp_path)
    assert (tmp_path / "five.gif").read_bytes() == warm


def _draws(service: ScriptedService, attempt: str, rank: int) -> str:
    return eventually(lambda: lines_of(service, attempt, rank, "draws"), 5)[0]


@pytest.mark.long
def test_warm_equals_fresh_under_plain_torchrun(service: ScriptedService, gang: Gang, tmp_path: Path) -> None:
    warm = file_of(service.finished(service.submit(prompt="a five", base_seed=11)))
    run_plainly(SCRIPT, tmp_path)
    assert (tmp_path / "five.gif").read_bytes() == warm


def test_a_cancel_stops_at_a_step_and_the_model_stays(service: ScriptedService, gang: Gang) -> None:
    attempt = service.submit(prompt="a one", sample_steps=1000, step_seconds=0.05)
    beat = eventually(lambda: next((b for b in service.beats if _steps(b, attempt)), None), 10, "a beat")
    assert beat["attempts"][0]["total"] == 1000
    service.words[attempt] = "cancel"
    assert service.finished(attempt, within_s=5)["outcome"] == "canceled"
    assert service.finished(service.submit(prompt="a one"))["metrics"]["models_reused"] == 1


def _steps(beat: dict[str, Any], attempt: str) -> bool:
    return any(one["attempt"] == attempt and one["phase"] == "steps" for one in beat["attempts"])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"sample_solver": "magic"}, "invalid choice: 'magic'"),
        ({"frame_num": 1}, "Unsupported frame_num 1"),
        ({"colour": "red"}, "no argument colour"),
    ],
)
def test_a_bad_argument_is_invalid_input(service: ScriptedService, gang: Gang, wrong: dict[str, Any], why: str) -> None:
    finish = service.finished(service.submit(**wrong))
    assert finish["error"]["code"] == "invalid_input"
    assert why in finish["error"]["message"]
    assert service.finished(service.submit(prompt="a one"))["metrics"]["models_reused"] == 1


def test_a_swallowed_save_error_is_a_missing_artifact(service: ScriptedService, gang: Gang) -> None:
    attempt = service.submit(prompt="a one", sample_steps=20, step_seconds=0.05)
    folder = gang.log.parent / "scratch" / attempt / "rank-0"
    eventually(folder.exists, 5)
    folder.rmdir()  # what it is told to save to cannot be written any more
    finish = service.finished(attempt)
    assert (finish["outcome"], finish["error"]["code"]) == ("failed", "artifact_missing")
    assert lines_of(service, attempt, 0, "cache_video failed")
    assert lines_of(service, attempt, 0, "Finished.")  # as far as the script knows
    assert service.finished(service.submit(prompt="a one"))["metrics"]["models_reused"] == 1


def test_logging_does_not_stack_up(service: ScriptedService, gang: Gang) -> None:
    attempt = service.submit(prompt="a four")
    service.finished(attempt)
    assert len(lines_of(service, attempt, 0, "Finished.")) == 1


def test_an_idle_gang_outlives_the_timeout_of_the_script_s_group(service: ScriptedService, gang: Gang) -> None:
    incarnation, pids = service.incarnation, dict(service.pids)
    quiet_since = time.monotonic()
    eventually(lambda: time.monotonic() - quiet_since > 9, 12)
    assert service.finished(service.submit(prompt="a six"))["metrics"]["models_reused"] == 1
    assert (service.incarnation, service.pids) == (incarnation, pids)
