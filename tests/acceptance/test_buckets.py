"""The whole way over S3: a service whose storage is a bucket, real ranks that read from it and write to it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from bucket import S3, s3
from stage import Up, running, until

from orchestrator.client import Request

pytestmark = pytest.mark.long

COPIER = {
    "name": "copier",
    "handler": f"{Path(__file__).parent / 'stage' / 'copier.py'}:Copier",
    "ranks_per_node": 2,
    "input": {
        "type": "object",
        "properties": {
            "image": {"type": "string", "format": "muster-file"},
            "times": {"type": "integer"},
            "dies": {"type": "boolean"},
        },
        "required": ["image"],
    },
    "pool": {"max": 1},
    "batch": {"share_pool": True, "max_gangs": 1},
}
CAT = os.urandom(9 << 20)
"""More than the service sends at a time."""


@pytest.fixture(scope="module")
def storage() -> Iterator[S3]:
    with s3() as storage:
        yield storage


@pytest.fixture(scope="module")
def up(storage: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`muster up` whose storage is the bucket; nothing but credentials and an address is needed for that."""
    settings = {
        "MUSTER_STORAGE_URL": storage.url("prod"),
        "MUSTER_BATCH_URLS": storage.url("inbox/{tenant}"),
        **storage.environment,
    }
    with running(Up(tmp_path_factory.mktemp("up"), **settings)) as up:
        up.client.apply_template(COPIER)
        yield up


@pytest.fixture(scope="module")
def cat(up: Up, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The ID of an upload."""
    file = tmp_path_factory.mktemp("cat") / "cat.png"
    file.write_bytes(CAT)
    return up.client.upload(file).id


@pytest.fixture(scope="module")
def done(up: Up, cat: str) -> Request:
    """A request that read the cat and published it twice over: more than a rank sends at a time."""
    request = up.run("copier", {"image": cat, "times": 2})
    assert request.succeeded, request.error
    return request


def test_ranks_read_an_upload_from_the_bucket_and_publish_to_it_below_their_tenants_prefix(
    up: Up, storage: S3, cat: str, done: Request
) -> None:
    assert done.result == {"start": 0, "read": len(CAT), "kept": None}
    (output,) = done.outputs
    assert (output.bytes, output.sha256) == (2 * len(CAT), hashlib.sha256(CAT * 2).hexdigest())
    assert storage.keys("prod") == [f"default/files/{cat}", f"default/{done.id}/1/copy%20of%20it.bin"]
    assert storage.unfinished() == []


def test_an_output_is_downloaded_whole_and_in_parts(up: Up, done: Request, tmp_path: Path) -> None:
    whole = CAT * 2
    assert up.client.download(done.id, "copy of it.bin", tmp_path).read_bytes() == whole
    with httpx.Client(base_url=up.client.url, headers={"Authorization": f"Bearer {up.token}"}) as caller:
        path = f"/v1/requests/{done.id}/outputs/copy%20of%20it.bin"
        for asked, start, end in (
            ("bytes=5-9", 5, 10),
            ("bytes=-7", len(whole) - 7, None),
            ("bytes=9437180-", 9437180, None),
        ):
            answer = caller.get(path, headers={"Range": asked})
            assert (answer.status_code, answer.content) == (206, whole[start:end])
        assert caller.head(path).headers["content-length"] == str(len(whole))
        assert caller.get(path, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416


def test_a_request_that_loses_its_gang_goes_on_from_its_checkpoint_in_the_bucket(up: Up, storage: S3, cat: str) -> None:
    request = up.run("copier", {"image": cat, "dies": True})
    assert request.succeeded, request.error
    assert (request.attempt, request.result) == (2, {"start": 3, "read": len(CAT), "kept": 0})
    until(lambda: not storage.keys("prod", "default", request.id, "checkpoints"), "the end of its checkpoints")
    assert storage.keys("prod", "default", request.id) == ["2/copy%20of%20it.bin"]


def test_a_batch_is_read_from_the_bucket_and_its_results_name_what_its_items_published(
    up: Up, storage: S3, cat: str
) -> None:
    lines = b"".join(b'{"custom_id":"c%d","input":{"image":"%s"}}\n' % (n, cat.encode()) for n in range(3))
    batch = up.client.batches.submit_named("copier", url=storage.put(lines, "inbox", "default", "nightly.jsonl"))
    batch = up.client.batches.wait(batch.id)
    assert (batch.status, batch.outcome) == ("completed", "all_succeeded"), batch.reason
    with up.client.batches.results(batch.id) as chunks:
        told = [json.loads(line) for line in b"".join(chunks).splitlines()]
    assert [one["outputs"][0]["sha256"] for one in told] == [hashlib.sha256(CAT).hexdigest()] * 3
