"""Outputs as they are served: only what was published, in one range at most, never shown inline."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import StreamingResponse

from orchestrator.api.artifacts import response
from orchestrator.errors import MusterError

CONTENT = bytes(range(100))


@pytest.fixture
def output(tmp_path: Path) -> Any:
    (tmp_path / "picture.html").write_bytes(CONTENT)
    return SimpleNamespace(
        name="picture.html",
        uri=(tmp_path / "picture.html").as_uri(),
        bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        media_type="text/html",
    )


def body(answer: Any) -> bytes:
    async def read() -> bytes:
        return b"".join([bytes(part) async for part in answer.body_iterator])

    return asyncio.run(read()) if isinstance(answer, StreamingResponse) else bytes(answer.body)


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        (None, 200, 0, 100),
        ("bytes=0-99", 206, 0, 100),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=90-", 206, 90, 100),
        ("bytes=-10", 206, 90, 100),
        ("bytes=-500", 206, 0, 100),
        ("bytes=50-999999", 206, 50, 100),
        ("bytes=100-", 416, 0, 0),
        ("bytes=5-3", 200, 0, 100),
        ("Bytes=0-0", 206, 0, 1),
        ("bytes=٠-٠", 200, 0, 100),
        ("bytes=-0", 416, 0, 0),
        ("bytes=999999999999999999-", 416, 0, 0),
        ("bytes=0-0,2-3", 200, 0, 100),
        ("bytes=" + ",".join(["0-0"] * 10_000), 200, 0, 100),
        ("bytes=-", 200, 0, 100),
        ("bytes=a-b", 200, 0, 100),
        ("lines=1-2", 200, 0, 100),
        ("bytes=" + "9" * 40 + "-", 200, 0, 100),
    ],
)
def test_a_single_range_is_served_and_all_else_is_the_whole(
    tmp_path: Path, output: Any, asked: str | None, status: int, start: int, end: int
) -> None:
    answer = response(output, tmp_path.as_uri(), "GET", {"range": asked} if asked else {})
    assert answer.status_code == status
    if status != 416:
        assert body(answer) == CONTENT[start:end]
        assert answer.headers["content-length"] == str(end - start)
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/100"
    if status == 416:
        assert answer.headers["content-range"] == "bytes */100"


def test_an_output_is_a_download_and_never_a_page(tmp_path: Path, output: Any) -> None:
    output.name = 'a"b\r\nX: y\u00e9.html'
    headers = response(output, tmp_path.as_uri(), "GET", {}).headers
    assert headers["content-disposition"] == 'attachment; filename="a_b__X__y_.html"'
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]


@pytest.mark.parametrize("damage", ["gone", "shorter"])
def test_what_is_not_as_it_was_published_is_not_served(tmp_path: Path, output: Any, damage: str) -> None:
    file = tmp_path / "picture.html"
    file.unlink() if damage == "gone" else file.write_bytes(b"x")
    with pytest.raises(MusterError) as refused:
        response(output, tmp_path.as_uri(), "GET", {})
    assert refused.value.code == "integrity"


def test_nothing_outside_the_storage_is_served(tmp_path: Path, output: Any) -> None:
    with pytest.raises(MusterError) as refused:
        response(output, (tmp_path / "outputs").as_uri(), "GET", {})
    assert refused.value.code == "integrity"


def test_a_sibling_that_shares_the_name_of_the_storage_is_outside(tmp_path: Path, output: Any) -> None:
    (tmp_path / "outputs-of-others").mkdir()
    output.uri = (tmp_path / "outputs-of-others" / "x").as_uri()
    with pytest.raises(MusterError):
        response(output, (tmp_path / "outputs").as_uri(), "GET", {})


def test_its_sha256_saves_the_bytes_of_an_output(tmp_path: Path, output: Any) -> None:
    tag = response(output, tmp_path.as_uri(), "GET", {}).headers["etag"]
    assert tag == f'"{output.sha256}"'
    for said in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = response(output, tmp_path.as_uri(), "GET", {"if-none-match": said, "range": "bytes=0-0"})
        assert answer.status_code == 304 and body(answer) == b"" and answer.headers["etag"] == tag
    assert response(output, tmp_path.as_uri(), "GET", {"if-none-match": '"x"'}).status_code == 200


def test_a_range_of_what_was_something_else_before_is_the_whole(tmp_path: Path, output: Any) -> None:
    asked = {"range": "bytes=0-9"}
    for said, status in ((f'"{output.sha256}"', 206), ('"x"', 200), (f'W/"{output.sha256}"', 200)):
        assert response(output, tmp_path.as_uri(), "GET", asked | {"if-range": said}).status_code == status


def test_a_look_at_the_head_has_all_headers_and_no_bytes(tmp_path: Path, output: Any) -> None:
    head = response(output, tmp_path.as_uri(), "HEAD", {"range": "bytes=0-0"})
    whole = response(output, tmp_path.as_uri(), "GET", {})
    assert head.status_code == 200 and body(head) == b"" and dict(head.headers) == dict(whole.headers)


def test_a_media_type_that_is_none_breaks_no_header(tmp_path: Path, output: Any) -> None:
    output.media_type = "text/html\r\nSet-Cookie: a=b"
    assert response(output, tmp_path.as_uri(), "GET", {}).headers["content-type"] == "application/octet-stream"
