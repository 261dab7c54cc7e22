"""/v1/files over HTTP, and which files a request may name."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import builders as make
import httpx
import pytest
from races import eventually
from replica import Replica, replica
from sqlalchemy import text

from orchestrator.client import Client
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope

MOST = 5_000_000
SCHEMA = {"type": "object", "properties": {"image": {"type": ["string", "null"], "format": "muster-file"}}}
TEMPLATE = {"handler": "samples.digits:Digits", "input": SCHEMA, "pool": {"max": 1}}
CAT = b"a cat"


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    with replica(shared_database, tmp_path_factory.mktemp("replica"), max_upload_bytes=MOST) as running:
        yield running


@pytest.fixture
def caller(here: Replica) -> Iterator[httpx.Client]:
    with here.caller() as client:
        assert client.put("/v1/templates/video", json=TEMPLATE).status_code == 200
        yield client


def upload(client: httpx.Client, content: Any = CAT, name: str = "cat.png") -> httpx.Response:
    return client.post("/v1/files", params={"name": name}, content=content)


def submit(client: httpx.Client, image: Any) -> httpx.Response:
    return client.post("/v1/requests", json={"template": "video", "input": {"image": image}})


def place_of(here: Replica, file_id: str) -> Path:
    find = text("SELECT uri FROM file WHERE id = :id")
    return Path(urlsplit(here.database.transact(lambda tx: tx.execute(find, {"id": file_id}).scalar_one())).path)


def test_an_upload_is_stored_and_described_exactly(here: Replica, caller: httpx.Client) -> None:
    content = bytes(range(256)) * 9000
    answer = upload(caller, (content[at : at + 70_000] for at in range(0, len(content), 70_000)))
    assert answer.status_code == 201
    file = answer.json()
    assert (file["name"], file["bytes"], file["sha256"]) == (
        "cat.png",
        len(content),
        hashlib.sha256(content).hexdigest(),
    )
    assert place_of(here, file["id"]).read_bytes() == content
    assert caller.get(answer.headers["location"]).json() == file


def test_the_gang_is_told_where_the_file_lies_and_the_request_shows_its_name(
    here: Replica, caller: httpx.Client
) -> None:
    file = upload(caller).json()
    answer = submit(caller, file["id"])
    assert answer.status_code == 202
    assert answer.json()["input"] == {"image": file["id"]}
    find = text("SELECT files FROM payload WHERE request_id = :id")
    told = here.database.transact(lambda tx: tx.execute(find, {"id": answer.json()["id"]}).scalar_one())
    assert told == {
        "image": {
            "file": file["id"],
            "name": "cat.png",
            "uri": place_of(here, file["id"]).as_uri(),
            "bytes": len(CAT),
            "sha256": file["sha256"],
        }
    }
    assert submit(caller, None).status_code == 202


def test_the_lease_that_a_gang_pulls_carries_the_files(here: Replica, caller: httpx.Client) -> None:
    file = upload(caller).json()
    request = submit(caller, file["id"]).json()["id"]

    def lease(tx: make.Tx) -> Any:
        pool = tx.execute(
            text("SELECT p.* FROM pool p JOIN request r ON r.pool_id = p.id WHERE r.id = :id"), {"id": request}
        ).one()
        gang = make.ready(tx, pool)
        make.assign(tx, pool)
        return gang

    gang = here.database.transact(lease)
    with here.client(gang.session) as worker:
        (work,) = worker.get(f"/internal/v1/gangs/{gang.id}/work", params={"wait": 0}).json()["work"]
    assert (work["request"], work["files"]["image"]["sha256"]) == (request, file["sha256"])


@pytest.mark.parametrize(
    "image",
    [
        "file:///etc/passwd",
        "../../etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "s3://bucket/key",
        "fil_" + "0" * 26,
        "fil_" + "0" * 26 + "/../x",
        "req_" + "0" * 26 + "/out.png",
        "req_" + "0" * 26 + "/../../x",
        "",
    ],
)
def test_what_is_no_file_of_the_tenant_is_refused(caller: httpx.Client, image: str) -> None:
    answer = submit(caller, image)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/input/image"), answer.text


def test_a_file_of_another_tenant_does_not_exist(here: Replica, caller: httpx.Client) -> None:
    with here.caller() as other:
        file = upload(other).json()
    assert caller.get(f"/v1/files/{file['id']}").status_code == 404
    refused, unknown = submit(caller, file["id"]), submit(caller, "fil_" + "0" * 26)
    assert refused.status_code == 422
    assert refused.text.replace(file["id"], "ID") == unknown.text.replace("fil_" + "0" * 26, "ID")


def test_an_upload_needs_the_scope_a_plain_name_and_a_bounded_size(here: Replica, caller: httpx.Client) -> None:
    with here.caller(Scope.READ) as reader:
        assert upload(reader).status_code == 403
    for name in ("../cat.png", ".cat", "a/b", "", "cat\n.png"):
        assert upload(caller, name=name).status_code == 422
    assert upload(caller, b"x" * (MOST + 1)).status_code == 413
    assert upload(caller, (b"x" * 100_000 for _ in range(60))).status_code == 413


def test_an_upload_that_breaks_off_is_no_file(here: Replica, caller: httpx.Client) -> None:
    find = text("SELECT count(*) FROM file WHERE sha256 IS NULL AND expires_at <= clock_timestamp()")
    before = here.database.transact(lambda tx: tx.execute(find).scalar_one())
    where = urlsplit(here.url)
    with socket.create_connection((str(where.hostname), int(where.port or 0))) as line:
        head = f"POST /v1/files HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: 1000\r\nAuthorization: "
        line.sendall(f"{head}{caller.headers['authorization']}\r\n\r\nhalf".encode())
    eventually(lambda: here.database.transact(lambda tx: tx.execute(find).scalar_one()) == before + 1)


def test_a_schema_may_name_files_only_at_its_top_and_a_warm_up_none(caller: httpx.Client) -> None:
    deep = {"type": "object", "properties": {"a": {"type": "object", "properties": SCHEMA["properties"]}}}
    answer = caller.put("/v1/templates/deep", json={**TEMPLATE, "input": deep})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_template")
    answer = caller.put("/v1/templates/warm", json={**TEMPLATE, "warmup": {"input": {"image": "fil_1"}}})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/warmup/input/image")


def test_the_client_sends_a_file_and_counts_its_bytes(here: Replica, caller: httpx.Client, tmp_path: Path) -> None:
    path, sent = tmp_path / "my cät.png", []
    path.write_bytes(b"x" * 1_000_000)
    with Client(here.url, caller.headers["authorization"].removeprefix("Bearer ")) as client:
        file = client.upload(path, sent=sent.append)
    assert (file.name, file.bytes, sum(sent)) == ("my c_t.png", 1_000_000, 1_000_000)
