"""Storage in a bucket, over the API and the loops: what lies where, whose it is, and when it goes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builders as make
import httpx
import pytest
from bucket import S3, s3
from replica import Replica, replica
from scripted_backend import ScriptedBackend
from sqlalchemy import text

from orchestrator.api.intake import read_named
from orchestrator.backends.places import Places
from orchestrator.loops import batches, purge, reading, upkeep
from orchestrator.loops.desk import Desk
from orchestrator.store.database import Database

SCHEMA = {"type": "object", "properties": {"image": {"type": ["string", "null"], "format": "muster-file"}}}
TEMPLATE = {"handler": "samples.digits:Digits", "input": SCHEMA, "pool": {"max": 1}}
LINES = b'{"custom_id":"a","input":{}}\n'


@pytest.fixture(scope="module")
def storage() -> Iterator[S3]:
    with s3() as storage:
        yield storage


@pytest.fixture
def here(database: Database, storage: S3, tmp_path: Path) -> Iterator[Replica]:
    """Its own prefix of the bucket, and a place for batches inside the very same one: the worst that may be set."""
    settings: dict[str, Any] = {
        "storage_url": storage.url(database.url.rpartition("/")[2]),
        "batch_urls": (storage.url("inbox", "{tenant}"), storage.url(database.url.rpartition("/")[2])),
    }
    with replica(database, tmp_path, **settings) as running:
        yield running


@pytest.fixture
def desk(here: Replica) -> Desk:
    return Desk(
        database=here.database, places=Places(ScriptedBackend()), settings=here.office.settings, wake=lambda **_: None
    )


def tenant(here: Replica, name: str) -> httpx.Client:
    """With a template to submit to."""
    here.database.transact(lambda tx: make.tenant(tx, name))
    client = here.caller(tenant=name)
    assert client.put("/v1/templates/video", json=TEMPLATE).status_code == 200
    return client


def lying(here: Replica, storage: S3) -> list[str]:
    return storage.keys(here.office.settings.outputs.rpartition("/")[2])


def published(here: Replica, storage: S3, owner: str, keep_s: float | None = None) -> str:
    """A request of the tenant that succeeded with one output in the bucket."""
    lease = here.database.transact(
        lambda tx: make.leased(tx, make.pool(tx, tenant=owner), tenant=owner, output_ttl_s=keep_s)
    )
    prefix = here.office.settings.outputs.rpartition("/")[2]
    uri = storage.put(b"GIF", prefix, owner, lease.request, "1", "a.gif")
    digest = hashlib.sha256(b"GIF").hexdigest()
    file = {"name": "a.gif", "media_type": "image/gif", "bytes": 3, "sha256": digest, "uri": uri}
    here.database.transact(lambda tx: make.finish(tx, lease, outputs=[file]))
    return str(lease.request)


def test_uploads_lie_below_the_prefix_of_their_tenant_and_go_when_they_expire(
    here: Replica, storage: S3, desk: Desk
) -> None:
    files = {name: tenant(here, name).post("/v1/files", content=b"x" * 10).json()["id"] for name in ("ads", "biz")}
    assert lying(here, storage) == [f"{name}/files/{file}" for name, file in files.items()]
    late = text("UPDATE file SET expires_at = clock_timestamp() WHERE tenant = 'ads'")
    here.database.transact(lambda tx: tx.execute(late))
    assert upkeep.run_once(desk).did == {"removed_files": [files["ads"]]}
    assert lying(here, storage) == [f"biz/files/{files['biz']}"]


def test_an_output_is_read_until_it_expires_and_is_gone_from_the_bucket_then(
    here: Replica, storage: S3, desk: Desk
) -> None:
    ads = tenant(here, "ads")
    short, ever = published(here, storage, "ads", 3600), published(here, storage, "ads")
    answer = ads.get(f"/v1/requests/{short}/outputs/a.gif", headers={"Range": "bytes=1-"})
    assert (answer.status_code, answer.content) == (206, b"IF")
    late = text("UPDATE output SET expires_at = clock_timestamp() WHERE request_id = :id")
    here.database.transact(lambda tx: tx.execute(late, {"id": short}))
    assert upkeep.run_once(desk).did == {"removed_outputs": [f"{short}/a.gif"]}
    refusal = ads.get(f"/v1/requests/{short}/outputs/a.gif")
    assert (refusal.status_code, refusal.json()["code"]) == (410, "output_expired")
    assert lying(here, storage) == [f"ads/{ever}/1/a.gif"]


def test_what_a_purged_request_left_goes_from_the_bucket_also_what_came_after_a_first_look(
    here: Replica, storage: S3, desk: Desk
) -> None:
    ads = tenant(here, "ads")
    gone, kept = published(here, storage, "ads"), published(here, storage, "ads")
    prefix = here.office.settings.outputs.rpartition("/")[2]
    storage.put(b"part", prefix, "ads", gone, "checkpoints", "000000001-1", "rank-0.safetensors")
    assert ads.delete(f"/v1/requests/{gone}").status_code == 204
    due = text("UPDATE purged SET remove_at = clock_timestamp(), purged_at = purged_at - interval '30 minutes'")
    here.database.transact(lambda tx: tx.execute(due))
    assert purge.run_once(desk).did == {"purged": [gone]}
    assert lying(here, storage) == [f"ads/{kept}/1/a.gif"]
    storage.put(b"late", prefix, "ads", gone, "1", "b.gif")
    here.database.transact(lambda tx: tx.execute(due))
    assert purge.run_once(desk).did == {"purged": [gone]}
    assert lying(here, storage) == [f"ads/{kept}/1/a.gif"]


def test_a_gang_that_was_lost_leaves_no_checkpoint_in_the_bucket(here: Replica, storage: S3, desk: Desk) -> None:
    ads = tenant(here, "ads")
    lease = here.database.transact(lambda tx: make.leased(tx, make.pool(tx, tenant="ads"), tenant="ads"))
    prefix = here.office.settings.outputs.rpartition("/")[2]
    for name in ("rank-0.safetensors", "manifest.json"):
        storage.put(b"x", prefix, "ads", lease.request, "checkpoints", "000000001-1", name)
    here.database.transact(lambda tx: make.lose(tx, lease))
    assert ads.post(f"/v1/requests/{lease.request}/cancel").status_code == 200
    assert upkeep.run_once(desk).did == {"removed_checkpoints": [lease.request]}
    assert lying(here, storage) == []


def test_no_tenant_can_name_what_another_stored(here: Replica, storage: S3) -> None:
    ads, biz = tenant(here, "ads"), tenant(here, "biz")
    file, request = biz.post("/v1/files", content=LINES).json()["id"], published(here, storage, "biz")
    uri = f"{here.office.settings.outputs}/biz/files/{file}"
    said = {"template": "video"}
    for image in (file, f"{request}/a.gif", uri, f"{request}/../{request}/a.gif", f"biz/files/{file}"):
        answer = ads.post("/v1/requests", json={**said, "input": {"image": image}})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/input/image"), image
    assert ads.get(f"/v1/files/{file}").status_code == 404
    assert ads.get(f"/v1/requests/{request}/outputs/a.gif").status_code == 404
    assert ads.post("/v1/batches", json={**said, "file": file}).status_code == 404
    for client, owner in ((ads, "biz"), (ads, "ads"), (biz, "biz")):
        own = f"{here.office.settings.outputs}/{owner}/files/{file}"
        assert client.post("/v1/batches", json={**said, "url": own}).json()["code"] == "url_not_allowed"


LEADING_ELSEWHERE = (
    "{inbox}/biz/a.jsonl",
    "{inbox}/ads-evil/a.jsonl",
    "{inbox}/ads/../biz/a.jsonl",
    "{inbox}/ads/%2e%2e/biz/a.jsonl",
    "{inbox}/ads/..%2fbiz/a.jsonl",
    "{inbox}/ads//../biz/a.jsonl",
    "{inbox}/ads/*",
    "{inbox}/ads",
    "s3://muster-tests-evil/inbox/ads/a.jsonl",
    "file:///etc/passwd",
    "memory://x",
    "filecache::{inbox}/ads/a.jsonl",
    "http://127.0.0.1/latest/meta-data",
)


def test_a_batch_is_read_from_nowhere_but_the_tenants_own_place(here: Replica, storage: S3) -> None:
    for owner in ("ads", "biz", "ads-evil"):
        storage.put(LINES, "inbox", owner, "a.jsonl")
    ads = tenant(here, "ads")
    for pattern in LEADING_ELSEWHERE:
        url = pattern.format(inbox=storage.url("inbox"))
        answer = ads.post("/v1/batches", json={"template": "video", "url": url})
        assert (answer.status_code, answer.json()["code"]) == (422, "url_not_allowed"), url
        assert "biz" not in answer.text


def test_a_batch_from_the_bucket_is_accepted_or_says_that_it_cannot_be_read(
    here: Replica, storage: S3, desk: Desk
) -> None:
    ads = tenant(here, "ads")
    storage.put(LINES + b'{"custom_id":"b","input":{}}', "inbox", "ads", "a.jsonl")
    named = [storage.url("inbox", "ads", name) for name in ("a.jsonl", "nothing.jsonl")]
    ids = [ads.post("/v1/batches", json={"template": "video", "url": url}).json()["id"] for url in named]
    for _ in named:
        reading.run_once(desk, lambda row: read_named(here.database, here.office.settings, row))
    batches.run_once(desk)
    good, bad = (ads.get(f"/v1/batches/{one}").json() for one in ids)
    assert (good["status"], good["counts"]["total"]) == ("queued", 2)
    assert (bad["status"], bad["reason_code"]) == ("failed", "unreadable")


def test_storage_that_is_away_makes_the_service_unavailable_and_the_file_may_be_there_again(
    here: Replica, storage: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    ads = tenant(here, "ads")
    request = published(here, storage, "ads")
    with monkeypatch.context() as broken:
        broken.setattr("orchestrator.storage.place", lambda _: 1 / 0)
        answer = ads.get(f"/v1/requests/{request}/outputs/a.gif")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert ads.get(f"/v1/requests/{request}/outputs/a.gif").content == b"GIF"
