"""Outputs: whole or not there, with the right figures."""

import hashlib
from pathlib import Path
from typing import Any

import fsspec
import pytest

from inference import publish
from inference.publish import ArtifactMissing, Outputs, OutputTooLarge, UploadFailed


def _nothing() -> None:
    pass


def test_a_published_file_is_described_exactly(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "scratch")
    outputs.promise("a b#1.png", None).write_bytes(b"picture")
    (described,) = outputs.publish((tmp_path / "out put").as_uri(), _nothing)
    assert described["media_type"] == "image/png"
    assert described["bytes"] == 7
    assert described["sha256"] == hashlib.sha256(b"picture").hexdigest()
    assert (tmp_path / "out put" / "a b#1.png").read_bytes() == b"picture"
    assert described["uri"] == (tmp_path / "out put" / "a b#1.png").as_uri()


def test_nothing_visible_is_left_when_the_copy_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = Outputs(tmp_path / "scratch")
    outputs.promise("a.bin", None).write_bytes(b"12345")

    def fail(*_: Any) -> tuple[int, str]:
        raise OSError("disk full")

    monkeypatch.setattr(publish, "_copy", fail)
    with pytest.raises(UploadFailed, match="disk full"):
        outputs.publish((tmp_path / "out").as_uri(), _nothing)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_older_file_of_that_name_is_replaced_at_once(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("old")
    outputs = Outputs(tmp_path / "scratch")
    outputs.promise("a.txt", None).write_text("new")
    outputs.publish((tmp_path / "out").as_uri(), _nothing)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["new"]


def test_other_places_are_reached_through_fsspec(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path)
    outputs.promise("a.txt", "text/x-mine").write_text("far")
    (described,) = outputs.publish("memory://bucket/req_1/1", _nothing)
    assert described["uri"] == "memory://bucket/req_1/1/a.txt"
    assert described["media_type"] == "text/x-mine"
    assert fsspec.filesystem("memory").cat("/bucket/req_1/1/a.txt") == b"far"


@pytest.mark.parametrize("content", [None, b""])
def test_a_promise_that_is_not_kept_publishes_nothing_at_all(tmp_path: Path, content: bytes | None) -> None:
    outputs = Outputs(tmp_path / "scratch")
    outputs.promise("good.txt", None).write_text("good")
    bad = outputs.promise("bad.txt", None)
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises(ArtifactMissing, match=r"bad\.txt"):
        outputs.publish((tmp_path / "out").as_uri(), _nothing)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "/etc/passwd", "a/b", ".hidden", "a\\b"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        Outputs(tmp_path).promise(name, None)


def test_scratch_is_emptied_after_the_attempt(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "scratch")
    outputs.promise("a.txt", None).write_text("x")
    outputs.discard()
    assert not (tmp_path / "scratch").exists()


def test_outputs_over_the_bound_are_refused_before_anything_is_stored(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "scratch")
    outputs.promise("a.bin", None).write_bytes(b"x" * 600)
    outputs.promise("b.bin", None).write_bytes(b"x" * 600)
    with pytest.raises(OutputTooLarge, match="1200 bytes"):
        outputs.publish((tmp_path / "stored").as_uri(), lambda: None, 1000)
    assert not (tmp_path / "stored").exists()
