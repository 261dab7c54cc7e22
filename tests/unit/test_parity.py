"""When two answers count as the same."""

from pathlib import Path
from typing import Any

from PIL import Image

from orchestrator.cli.parity import Answer, Verdict, compare


def answer(result: Any = None, **files: Path) -> Answer:
    return Answer(succeeded=True, why="", result=result, files=files)


def verdict(one: Any, other: Any, tolerance: float = 0.0) -> Verdict:
    return compare(answer(one), answer(other), tolerance)[0]


def test_results_are_compared_as_json() -> None:
    assert verdict({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}).equal
    assert verdict({"a": [1, 2]}, {"a": [1, 3]}).how == "/a/1: warm 2, fresh 3"
    assert verdict({"a": 1}, {}).how == "/a: warm 1, fresh nothing"


def test_numbers_may_differ_within_the_tolerance() -> None:
    assert verdict({"mean": 0.5}, {"mean": 0.5001}, 0.001).equal
    assert not verdict({"mean": 0.5}, {"mean": 0.5001}).equal
    assert not verdict({"yes": True}, {"yes": False}, 2).equal


def picture(path: Path, gray: int) -> Path:
    Image.new("L", (4, 4), gray).save(path)
    return path


def test_outputs_are_compared_as_bytes_and_then_as_pixels(tmp_path: Path) -> None:
    one, same, near = (picture(tmp_path / f"{name}.png", gray) for name, gray in (("a", 9), ("b", 9), ("c", 11)))
    assert compare(answer(p=one), answer(p=same), 0)[1].how == "same bytes"
    assert not compare(answer(p=one), answer(p=near), 1)[1].equal
    assert compare(answer(p=one), answer(p=near), 2)[1].equal


def test_an_output_of_only_one_of_them_is_a_difference(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    found = compare(answer(x=tmp_path / "x.bin"), answer(), 0)[1]
    assert (found.equal, found.how) == (False, "only the warm one wrote it")
