"""What this installation can speak to is known when the service starts."""

from __future__ import annotations

from pathlib import Path

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
