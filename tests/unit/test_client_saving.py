"""Downloads: complete or not at all, under names that cannot hurt."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest
from rest_fake import GIF, SUCCEEDED, TOKEN, FakeService

from orchestrator.client import Client
from orchestrator.client.saving import Incomplete, safe_name, save
from orchestrator.errors import NotFound


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService):
    with Client("http://muster.test", TOKEN, transport=httpx.MockTransport(service), sleep=lambda _: None) as client:
        yield client


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("digit.gif", "digit.gif"),
        ("a b.gif", "a b.gif"),
        ("bild-ü.png", "bild-ü.png"),
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("..\\x", "_._x"),
        (".bashrc", "_bashrc"),
        ("..", "_."),
        ("", "output"),
        (" ", "output"),
        ("-rf", "_rf"),
        ("a\x1b[31m\nb", "a_[31m_b"),
        ("fdp.\u202egif", "fdp._gif"),
        ("C:x", "C_x"),
        ("x\ud800", "x_"),
        ("ä" * 300, "ä" * 100),
    ],
)
def test_names_of_the_service_become_plain_names_in_our_folder(name: str, safe: str, tmp_path: Path) -> None:
    assert safe_name(name) == safe
    assert (tmp_path / safe_name(name)).resolve().parent == tmp_path.resolve()


def test_an_output_arrives_whole(client: Client, service: FakeService, tmp_path: Path) -> None:
    path = client.download(service.add(SUCCEEDED), "digit.gif", tmp_path / "new" / "folder")
    assert path.read_bytes() == GIF and path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in path.parent.iterdir()] == ["digit.gif"]


@pytest.mark.parametrize("promise", [{"bytes": 5}, {"bytes": 10**9}, {"sha256": "0" * 64}])
def test_what_is_not_what_was_promised_leaves_nothing(
    client: Client, service: FakeService, tmp_path: Path, promise: dict[str, object]
) -> None:
    service.promised["digit.gif"] = promise
    request_id = service.add(SUCCEEDED)
    (tmp_path / "digit.gif").write_bytes(b"older")
    with pytest.raises(Incomplete):
        client.download(request_id, "digit.gif", tmp_path)
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"older"]


def test_a_download_that_broke_is_tried_again(client: Client, service: FakeService, tmp_path: Path) -> None:
    request_id = service.add(SUCCEEDED)
    output = client.outputs(request_id)[0]
    service.answers = [httpx.ReadError("cut"), httpx.Response(200, content=GIF[:100])]
    assert client.save_output(request_id, output, tmp_path / "x.gif").read_bytes() == GIF


def test_an_endless_download_ends_at_the_promised_size(tmp_path: Path) -> None:
    def endless():
        while True:
            yield bytes(1000)

    with pytest.raises(Incomplete):
        save(endless(), tmp_path / "x", size_bytes=5000, sha256=None)
    assert not [*tmp_path.iterdir()]


def test_a_link_in_the_way_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    (tmp_path / "x").symlink_to(target)
    save([b"new"], tmp_path / "x", size_bytes=3, sha256=hashlib.sha256(b"new").hexdigest().upper())
    assert target.read_bytes() == b"mine" and (tmp_path / "x").read_bytes() == b"new"


def test_an_unknown_output_is_not_found(client: Client, service: FakeService, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nope\.gif"):
        client.download(service.add(SUCCEEDED), "nope.gif", tmp_path)
