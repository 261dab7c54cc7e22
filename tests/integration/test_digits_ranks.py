"""The digits handler on real gangs: torchrun with 1, 2 and 4 ranks, gloo, no service."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
RANK = Path(__file__).with_name("digits_rank.py")
ITEMS = [
    {"digit": 3, "seed": 11, "steps": 15},
    {"digit": 7, "seed": 12, "steps": 12, "count": 2, "guidance": 1.0},
    {"digit": 3, "seed": 11, "break_block": 2},
    {"digit": 3, "seed": 11, "steps": 15, "fresh_group": True},
]
DRAWN = [0, 1, 3]  # places in ITEMS


def run_gang(ranks, out, items, args=None):
    launch = ["-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--nnodes=1"]
    command = [
        sys.executable,
        *launch,
        f"--nproc-per-node={ranks}",
        RANK,
        out,
        json.dumps(items),
        json.dumps(args or {}),
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{ROOT}"}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)


class Drawn:
    """What one gang left behind for ITEMS."""

    def __init__(self, ranks, out):
        done = run_gang(ranks, out, ITEMS)
        assert done.returncode == 0, done.stderr
        self.out = out
        self.results = [answer["result"] for answer in json.loads((out / "results.json").read_text())]
        self.finals = [load_file(out / str(place) / "final.safetensors")["final"] for place in DRAWN]


@pytest.fixture(scope="module")
def gangs(tmp_path_factory):
    return {ranks: Drawn(ranks, tmp_path_factory.mktemp(f"ranks{ranks}")) for ranks in (1, 4)}


@pytest.mark.parametrize("ranks", [4])
def test_the_same_request_gives_the_same_picture_however_many_ranks_draw_it(gangs, ranks):
    for alone, together in zip(gangs[1].finals, gangs[ranks].finals, strict=True):
        assert torch.allclose(alone, together, atol=1e-4)


@pytest.mark.parametrize("ranks", [1, 4])
def test_after_an_error_inside_the_network_and_with_a_new_data_group_a_gang_draws_as_before(gangs, ranks):
    before, _, broken, after = gangs[ranks].results
    assert broken is None
    assert before == after


@pytest.mark.parametrize("ranks", [1, 4])
def test_both_files_and_the_figures_are_there(gangs, ranks):
    gang = gangs[ranks]
    assert gang.results[1].items() >= {"digit": 7, "seed": 12, "steps": 12, "count": 2}.items()
    assert len(gang.results[1]["digest"]) == 64
    with Image.open(gang.out / "1" / "digit.png") as still, Image.open(gang.out / "1" / "digit.gif") as moving:
        assert still.size == (384, 192)
        assert moving.size == (256, 128)
        assert moving.n_frames == 13  # the noise and twelve steps


def test_the_mean_tells_two_requests_apart(gangs):
    assert abs(gangs[1].results[0]["mean"] - gangs[1].results[1]["mean"]) > 1e-3


@pytest.mark.long
def test_a_larger_random_model_runs_too(tmp_path):
    args = {"random_weights": True, "size": 16, "width": 96, "depth": 2, "heads": 6}
    done = run_gang(2, tmp_path, [{"digit": 0, "steps": 2, "count": 1}], args)
    assert done.returncode == 0, done.stderr
    assert load_file(tmp_path / "0" / "final.safetensors")["final"].shape == (1, 16, 16)


@pytest.mark.long
def test_a_gang_over_which_the_model_does_not_split_is_refused_at_setup(tmp_path):
    done = run_gang(2, tmp_path, [{"digit": 0}], {"random_weights": True, "width": 48, "heads": 3})
    assert done.returncode != 0
    assert "2 ranks cannot share 16 tokens and 3 heads evenly" in done.stderr
