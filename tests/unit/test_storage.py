"""What this installation can speak to is known when the service starts."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from orchestrator import storage
from orchestrator.errors import Invalid


@pytest.mark.parametrize("uri", ["file:///data", "/data", "s3://bucket/x", "memory://x"])
def test_storage_that_is_spoken_here_is_good(uri: str) -> None:
    storage.require("MUSTER_STORAGE_URL", uri)


def test_storage_that_nobody_here_speaks_is_refused_with_the_variable_and_the_remedy() -> None:
    with pytest.raises(Invalid, match=r"MUSTER_STORAGE_URL=s4://bucket.*muster-orchestrator\[s3\]"):
        storage.require("MUSTER_STORAGE_URL", "s4://bucket")


def test_a_folder_is_made_for_a_file_that_needs_one(tmp_path: Path) -> None:
    uri = (tmp_path / "deep" / "er" / "a").as_uri()
    with storage.writing(uri) as writer:
        writer.write(b"abc")
    with storage.reading(*storage.place(uri), 2) as reader:
        assert reader.read() == b"abc"


@pytest.mark.parametrize(
    "name", ["a b.gif", "100%.txt", "%20", "<img src=x>\u202egnp.exe", "é#?&", "a::b", "~", "[x]*"]
)
def test_a_file_is_found_by_the_uri_that_a_gang_gives_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"abc")
    uri = f"{tmp_path.as_uri()}/{quote(name)}"
    with storage.reading(*storage.place(uri)) as reader:
        assert reader.read() == b"abc"


def test_a_home_with_a_space_is_the_same_for_all_who_write_there(tmp_path: Path) -> None:
    home = tmp_path / "my home"
    with storage.writing(f"{home.as_uri()}/a") as writer:
        writer.write(b"abc")
    assert (home / "a").read_bytes() == b"abc"


@pytest.mark.parametrize("away", ["file:///data/../etc/passwd", "file:///data/%2e%2e/etc", "file:///data/a/%2E%2E%2Fx"])
def test_nothing_leads_out_of_its_folder(away: str) -> None:
    assert storage.leads_away(away)
    with pytest.raises(Invalid):
        storage.place(away)
