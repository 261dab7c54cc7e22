"""Checkpoints of requests that are over do not stay, whatever became of the gang that kept them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import builders as make
import pytest
from scripted_backend import ScriptedBackend

from orchestrator.backends.places import Places
from orchestrator.errors import NotFound
from orchestrator.loops import upkeep
from orchestrator.loops.desk import Desk
from orchestrator.settings import Settings
from orchestrator.store import files, outputs, requests
from orchestrator.store.database import Database


def test_checkpoints_of_a_request_that_was_lost_and_canceled_are_removed(database: Database, tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path, api_urls=("http://here:1",))
    desk = Desk(database=database, places=Places(ScriptedBackend()), settings=settings, wake=lambda **_: None)
    over, open_ = (_lost(database) for _ in range(2))
    database.transact(lambda tx: requests.cancel(tx, "default", over))
    for request in (over, open_):
        kept = tmp_path / "outputs" / "default" / request / "checkpoints" / "000000003-1" / "manifest.json"
        kept.parent.mkdir(parents=True)
        kept.touch()
    assert upkeep.run_once(desk).did == {"removed_checkpoints": [over]}
    assert not (tmp_path / "outputs" / "default" / over / "checkpoints").exists()
    assert (tmp_path / "outputs" / "default" / open_ / "checkpoints").exists()
    assert not upkeep.run_once(desk)


def _lost(database: Database) -> str:
    """A request that waits again after its gang was lost."""
    lease = database.transact(lambda tx: make.leased(tx, make.pool(tx)))
    database.transact(lambda tx: make.lose(tx, lease))
    return str(lease.request)


def test_an_expired_upload_goes_unless_an_open_request_names_it(database: Database, tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path, api_urls=("http://here:1",))
    desk = Desk(database=database, places=Places(ScriptedBackend()), settings=settings, wake=lambda **_: None)
    expired, named, fresh = (
        _upload(database, tmp_path / name, timedelta(seconds=keep)) for name, keep in (("a", -1), ("b", -1), ("c", 60))
    )
    request = database.transact(
        lambda tx: make.queued(tx, make.pool(tx), files={"image": {"file": named, "uri": "file:///b"}})
    )
    assert upkeep.run_once(desk).did == {"removed_files": [expired]}
    assert [(tmp_path / name).exists() for name in "abc"] == [False, True, True]
    with pytest.raises(NotFound):
        database.transact(lambda tx: files.hold(tx, "default", expired))
    database.transact(lambda tx: requests.cancel(tx, "default", request))
    assert upkeep.run_once(desk).did == {"removed_files": [named]}
    assert database.transact(lambda tx: files.hold(tx, "default", fresh)).id == fresh


def test_a_file_that_a_request_is_about_to_name_does_not_expire_meanwhile(database: Database, tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path, api_urls=("http://here:1",))
    desk = Desk(database=database, places=Places(ScriptedBackend()), settings=settings, wake=lambda **_: None)
    file = _upload(database, tmp_path / "a", timedelta(seconds=-1))
    database.transact(lambda tx: files.hold(tx, "default", file))
    assert not upkeep.run_once(desk)
    assert (tmp_path / "a").exists()


def _upload(database: Database, place: Path, keep: timedelta) -> str:
    place.touch()
    file_id = f"fil_{place.name * 26}"
    database.transact(lambda tx: files.begin(tx, file_id=file_id, tenant="default", name="x", uri=place.as_uri()))
    database.transact(lambda tx: files.complete(tx, file_id, 0, "0" * 64, keep))
    return file_id


def test_an_output_goes_when_its_time_is_over_and_its_row_says_so(database: Database, tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path, api_urls=("http://here:1",))
    desk = Desk(database=database, places=Places(ScriptedBackend()), settings=settings, wake=lambda **_: None)
    short, long, ever = (_published(database, tmp_path, keep) for keep in (0.001, 60.0, None))
    assert upkeep.run_once(desk).did == {"removed_outputs": [f"{short}/a.gif"]}
    assert [(tmp_path / one / "1" / "a.gif").exists() for one in (short, long, ever)] == [False, True, True]
    assert not (tmp_path / short).exists()
    shown = [database.transact(lambda tx, one=one: requests.get(tx, "default", one)) for one in (short, long, ever)]
    assert [row.outputs[0]["expired"] for row in shown] == [True, False, False]
    with pytest.raises(NotFound, match="kept until") as refusal:
        database.transact(lambda tx: outputs.hold(tx, "default", short, "a.gif"))
    assert refusal.value.code == "output_expired"
    assert not upkeep.run_once(desk)


def test_an_output_stays_while_an_open_request_names_it_or_is_about_to(database: Database, tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path, api_urls=("http://here:1",))
    desk = Desk(database=database, places=Places(ScriptedBackend()), settings=settings, wake=lambda **_: None)
    named, about = (_published(database, tmp_path, 0.001) for _ in range(2))
    uri = (tmp_path / named / "1" / "a.gif").as_uri()
    reader = database.transact(lambda tx: make.queued(tx, make.pool(tx), files={"image": {"name": "x", "uri": uri}}))
    database.transact(lambda tx: outputs.hold(tx, "default", about, "a.gif"))
    assert not upkeep.run_once(desk)
    database.transact(lambda tx: requests.cancel(tx, "default", reader))
    assert upkeep.run_once(desk).did == {"removed_outputs": [f"{named}/a.gif"]}


def _published(database: Database, folder: Path, keep_s: float | None) -> str:
    """A request that succeeded with one output."""
    lease = database.transact(lambda tx: make.leased(tx, make.pool(tx), output_ttl_s=keep_s))
    place = folder / lease.request / "1" / "a.gif"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"GIF")
    file = {"name": "a.gif", "media_type": "image/gif", "bytes": 3, "sha256": "0" * 64, "uri": place.as_uri()}
    database.transact(lambda tx: make.finish(tx, lease, outputs=[file]))
    return lease.request
