"""A gang on two nodes fetches the files of a request once per node, and fails on all ranks together if it cannot."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_service import Gang, ScriptedService, eventually

pytestmark = pytest.mark.slow
CAT = b"a cat" * 1000


@pytest.fixture(scope="module")
def gang(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedService]:
    folder = tmp_path_factory.mktemp("inputs")
    service = ScriptedService(folder, {"handler": f"{Path(__file__).with_name('odd_handler.py')}:Odd"})
    ranks = Gang(service, folder, ranks=2, nodes=2)
    try:
        service.wait_ready()
        yield service
    finally:
        ranks.kill()
        service.close()


def submit(service: ScriptedService, place: Path, **changes: Any) -> str:
    digest = hashlib.sha256(CAT).hexdigest()
    file = {"name": "cat.png", "uri": place.as_uri(), "bytes": len(CAT), "sha256": digest, **changes}
    return service.submit(odd="read_image", image="fil_1", policy_files={"image": file})


def copies(service: ScriptedService) -> dict[Path, int]:
    """Of the cat on all nodes, with their inodes."""
    return {path: path.stat().st_ino for path in (service.outputs / "scratch" / "inputs").glob("*/*/cat.png")}


def test_every_rank_reads_its_nodes_copy_and_a_second_request_fetches_nothing(
    gang: ScriptedService, tmp_path: Path
) -> None:
    place = tmp_path / "cat"
    place.write_bytes(CAT)
    first = gang.finished(submit(gang, place))
    assert first["result"]["read"] == [len(CAT)] * 4
    kept = copies(gang)
    assert {path.parent.parent.name for path in kept} == {"n0", "n1"}
    place.unlink()
    second = gang.finished(submit(gang, place))
    assert second["result"] == first["result"]
    assert copies(gang) == kept


@pytest.mark.parametrize(("content", "code"), [(None, "input_missing"), (b"a dog", "input_corrupt")])
def test_a_file_that_is_gone_or_another_fails_on_all_ranks_and_the_gang_stays(
    gang: ScriptedService, tmp_path: Path, content: bytes | None, code: str
) -> None:
    other, good = tmp_path / "other", tmp_path / "good"
    if content is not None:
        other.write_bytes(content)
    good.write_bytes(CAT)
    born = gang.incarnation
    finish = gang.finished(submit(gang, other, sha256=hashlib.sha256(code.encode()).hexdigest()))
    assert (finish["outcome"], finish["error"]["code"], finish["error"]["phase"]) == ("failed", code, "inputs")
    assert finish["healthy"]
    assert gang.finished(submit(gang, good))["result"]["read"] == [len(CAT)] * 4
    assert gang.incarnation == born


def test_a_cancel_while_files_come_ends_the_request_on_all_ranks(gang: ScriptedService, tmp_path: Path) -> None:
    pipe, born = tmp_path / "slow", gang.incarnation
    os.mkfifo(pipe)
    attempt = submit(gang, pipe, bytes=1 << 30, sha256="0" * 64)
    eventually(lambda: any(beat["attempts"] for beat in gang.beats[-1:]), 60, "a beat of it")
    gang.words[attempt] = "cancel"
    deadline = time.monotonic() + 60
    with pipe.open("wb", buffering=0) as writer:
        while attempt not in gang.finishes and time.monotonic() < deadline:
            try:
                writer.write(b"x" * 4096)
            except BrokenPipeError:
                break
            time.sleep(0.0005)
    assert gang.finished(attempt)["outcome"] == "canceled"
    assert gang.incarnation == born
