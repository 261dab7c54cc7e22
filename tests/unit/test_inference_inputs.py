"""Files of a request on a node: fetched once, whole or not at all, and the folder stays within its bound."""

import hashlib
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest

from inference import inputs
from inference.inputs import BrokenOff, DownloadFailed, File, InputCorrupt, InputMissing, Inputs


def _nothing() -> None:
    pass


def _stored(folder: Path, content: bytes, name: str = "cat.png") -> File:
    place = folder / hashlib.sha256(content).hexdigest()
    place.write_bytes(content)
    return File(name=name, uri=place.as_uri(), bytes=len(content), sha256=place.name)


def test_a_file_is_fetched_once_and_found_again(tmp_path: Path) -> None:
    file = _stored(tmp_path, b"a cat")
    here = Inputs(tmp_path / "scratch", "n0", 1000)
    here.fetch([file], _nothing)
    assert here.path(file).read_bytes() == b"a cat"
    assert here.path(file).name == "cat.png"
    (tmp_path / file.sha256).unlink()
    here.fetch([file], _nothing)
    assert here.path(file).read_bytes() == b"a cat"


def test_a_copy_that_somebody_wrote_to_is_fetched_again(tmp_path: Path) -> None:
    file = _stored(tmp_path, b"a cat")
    here = Inputs(tmp_path / "scratch", "n0", 1000)
    here.fetch([file], _nothing)
    here.path(file).chmod(0o644)
    here.path(file).write_bytes(b"a dog")
    here.fetch([file], _nothing)
    assert here.path(file).read_bytes() == b"a cat"


@pytest.mark.parametrize("content", [b"a dog", b"a ca", b"a cat and more", b""])
def test_what_is_not_what_was_stored_is_refused_and_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    file = _stored(tmp_path, b"a cat")
    (tmp_path / file.sha256).write_bytes(content)
    here = Inputs(tmp_path / "scratch", "n0", 1000)
    with pytest.raises(InputCorrupt, match=r"cat\.png"):
        here.fetch([file], _nothing)
    assert list(here.path(file).parent.iterdir()) == []


def test_a_file_that_is_gone_is_missing_and_what_cannot_be_read_failed(tmp_path: Path) -> None:
    file = _stored(tmp_path, b"a cat")
    (tmp_path / file.sha256).unlink()
    here = Inputs(tmp_path / "scratch", "n0", 1000)
    with pytest.raises(InputMissing, match="upload it again"):
        here.fetch([file], _nothing)
    (tmp_path / file.sha256).mkdir()
    with pytest.raises(DownloadFailed):
        here.fetch([file], _nothing)


def test_what_was_used_longest_ago_goes_first_and_what_is_asked_for_never(tmp_path: Path) -> None:
    old, used, new = (_stored(tmp_path, content) for content in (b"1" * 40, b"2" * 40, b"3" * 40))
    here = Inputs(tmp_path / "scratch", "n0", 100)
    here.fetch([old], _nothing)
    here.fetch([used], _nothing)
    os.utime(here.path(old).parent, (1, 1))
    os.utime(here.path(used).parent, (2, 2))
    here.fetch([new], _nothing)
    assert [here.path(file).exists() for file in (old, used, new)] == [False, True, True]
    here.fetch([old, used, new], _nothing)
    assert all(here.path(file).exists() for file in (old, used, new))


def test_a_fetch_that_is_broken_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 2)
    file = _stored(tmp_path, b"a cat")
    here = Inputs(tmp_path / "scratch", "n0", 1000)

    def stop() -> None:
        raise BrokenOff

    with pytest.raises(BrokenOff):
        here.fetch([file], stop)
    assert list(here.path(file).parent.iterdir()) == []


def test_other_places_are_reached_through_fsspec_and_no_name_leads_out(tmp_path: Path) -> None:
    with fsspec.open("memory://inputs/cat", "wb") as place:
        place.write(b"a cat")
    said: dict[str, Any] = {
        "name": "../../etc/cat",
        "uri": "memory://inputs/cat",
        "bytes": 5,
        "sha256": hashlib.sha256(b"a cat").hexdigest(),
    }
    here = Inputs(tmp_path, "../n0", 1000)
    here.fetch([File.of(said)], _nothing)
    assert here.path(File.of(said)) == tmp_path / "inputs" / "..%2Fn0" / said["sha256"] / "cat"
    assert here.path(File.of(said)).read_bytes() == b"a cat"
