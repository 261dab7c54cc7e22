"""`muster batch download`: what is there whole is left alone, names cannot leave the folder or meet."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest
from rest_fake import GIF, TOKEN, FakeService, serving

from orchestrator.cli.main import run

BATCH = "bat_01m8bwfp6f6pssk7gsrs1zchk3"


def item(custom_id: str, *names: str, expired: bool = False) -> bytes:
    sha256 = hashlib.sha256(GIF).hexdigest()
    outputs = [{"name": name, "bytes": len(GIF), "sha256": sha256, "expired": expired} for name in names]
    return json.dumps({"custom_id": custom_id, "request": f"req_{custom_id}", "outputs": outputs}).encode() + b"\n"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch):
    fake = FakeService()
    with serving(fake) as url:
        monkeypatch.setenv("MUSTER_URL", url)
        monkeypatch.setenv("MUSTER_TOKEN", TOKEN)
        yield fake


def ask(service: FakeService, folder: Path, lines: list[bytes], files: int, *more: str) -> int:
    service.answers = [httpx.Response(200, content=b"".join(lines)), *(httpx.Response(200, content=GIF),) * files]
    return run(["batch", "download", BATCH, "-o", str(folder), *more])


def test_each_item_gets_a_folder_and_what_is_there_whole_is_not_fetched_again(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [item("a", "x.gif", "y.gif"), item("b", "x.gif"), item("none"), item("old", "x.gif", expired=True)]
    assert ask(service, tmp_path, lines, 3) == 0
    assert capsys.readouterr().err.endswith("3 of them fetched now\n")
    assert sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*.*")) == ["a/x.gif", "a/y.gif", "b/x.gif"]
    (tmp_path / "b" / "x.gif").write_bytes(GIF[:-1] + b"!")
    assert ask(service, tmp_path, lines, 1) == 0
    told = capsys.readouterr()
    assert told.err.endswith("1 of them fetched now\n") and len(told.out.splitlines()) == 3
    assert (tmp_path / "b" / "x.gif").read_bytes() == GIF


def test_items_whose_names_become_the_same_keep_apart(service: FakeService, tmp_path: Path) -> None:
    assert ask(service, tmp_path, [item("a:b", "../x.gif"), item("a_b", "x.gif")], 2) == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a_b", "a_b-2"]


def test_only_outputs_of_a_name_come_and_json_is_one_document(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(service, tmp_path, [item("a", "x.gif", "y.gif")], 1, "--name", "y.gif", "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)["data"]
    assert (one["custom_id"], one["name"], one["path"]) == ("a", "y.gif", str(tmp_path / "a" / "y.gif"))
