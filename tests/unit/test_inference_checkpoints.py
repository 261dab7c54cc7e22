"""A checkpoint is whole or does not exist."""

from pathlib import Path

import pytest
import torch

from inference.checkpoint import KEEP, Checkpoints


def nothing() -> None: ...


def rank(folder: Path, number: int, *, attempt: int = 1, world: int = 2) -> Checkpoints:
    prefix = (folder / "checkpoints").as_uri()
    return Checkpoints(prefix, folder / f"scratch-{number}", number=attempt, rank=number, world=world)


def save(folder: Path, step: int, *, attempt: int = 1, seal: bool = True) -> None:
    ranks = [rank(folder, number, attempt=attempt) for number in range(2)]
    parts = [one.save_part({"x": torch.full((3,), step + n), "n": [n]}, step, nothing) for n, one in enumerate(ranks)]
    if seal:
        ranks[0].seal(step, parts, nothing)


def test_every_rank_gets_its_own_part_back_and_the_step(tmp_path: Path) -> None:
    save(tmp_path, 5)
    for number in range(2):
        state, step = rank(tmp_path, number, attempt=2).load_part("000000005-1")
        assert step == 5
        assert state["n"] == [number]
        assert torch.equal(state["x"], torch.full((3,), 5 + number))


def test_a_checkpoint_without_its_manifest_does_not_exist(tmp_path: Path) -> None:
    assert rank(tmp_path, 0).found() == []
    save(tmp_path, 5)
    save(tmp_path, 10, seal=False)
    assert rank(tmp_path, 0).found() == ["000000005-1"]


def test_the_farthest_is_first_whichever_attempt_made_it_and_old_ones_go(tmp_path: Path) -> None:
    for attempt, step in enumerate((5, 10, 15), 1):
        save(tmp_path, step, attempt=attempt)
    assert rank(tmp_path, 0).found() == ["000000015-3", "000000010-2"]
    assert KEEP == 2
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    rank(tmp_path, 0).remove_all()
    assert not (tmp_path / "checkpoints").exists()


def test_a_damaged_part_or_another_shape_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 5)
    with pytest.raises(ValueError, match="of 2 ranks"):
        rank(tmp_path, 0, world=4).load_part("000000005-1")
    part = tmp_path / "checkpoints" / "000000005-1" / "rank-1.safetensors"
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    rank(tmp_path, 0).load_part("000000005-1")
    with pytest.raises(ValueError, match="rank 1 is damaged"):
        rank(tmp_path, 1).load_part("000000005-1")
