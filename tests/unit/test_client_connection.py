"""Where the client finds the service, and where it does not send its token."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orchestrator.client import find
from orchestrator.errors import Invalid, Unavailable

LOCAL = {"url": "http://127.0.0.1:8380", "token": "local-token"}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "local.json").write_text(json.dumps(LOCAL))
    return {"MUSTER_HOME": str(tmp_path)}


def test_the_local_service_is_found_by_its_file(environ: dict[str, str]) -> None:
    place = find(environ=environ)
    assert (place.url, place.token) == (LOCAL["url"], LOCAL["token"])
    assert place.source.endswith("local.json") and "local-token" not in repr(place)


def test_the_environment_comes_first(environ: dict[str, str]) -> None:
    place = find(environ={**environ, "MUSTER_URL": "http://far", "MUSTER_TOKEN": "t"})
    assert (place.url, place.token, place.source) == ("http://far", "t", "MUSTER_URL")


def test_the_option_comes_before_the_environment(environ: dict[str, str]) -> None:
    assert find("http://other", {**environ, "MUSTER_URL": "http://far"}).url == "http://other"


def test_the_local_token_goes_to_the_local_service_only(environ: dict[str, str]) -> None:
    assert find("http://evil", environ).token is None
    assert find(LOCAL["url"] + "/", environ).token == "local-token"


def test_nothing_known_is_told_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="muster up"):
        find(environ={"MUSTER_HOME": str(tmp_path)})
    with pytest.raises(Unavailable, match="muster up"):
        find(environ={"TMPDIR": str(tmp_path)})


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json"])
def test_a_damaged_file_is_told_with_a_remedy(environ: dict[str, str], tmp_path: Path, text: str) -> None:
    (tmp_path / "local.json").write_text(text)
    with pytest.raises(Invalid, match="remove it"):
        find(environ=environ)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file of somebody else")
def test_a_file_of_somebody_else_is_not_believed(environ: dict[str, str], tmp_path: Path) -> None:
    os.chown(tmp_path / "local.json", 12345, 12345)
    with pytest.raises(Unavailable):
        find(environ=environ)
