"""Checkpoints of requests that are over do not stay, whatever became of the gang that kept them."""

from __future__ import annotations

from pathlib import Path

import builders as make
from scripted_backend import ScriptedBackend

from orchestrator.loops import upkeep
from orchestrator.loops.desk import Desk
from orchestrator.settings import Settings
from orchestrator.store import requests
from orchestrator.store.database import Database


def test_checkpoints_of_a_request_that_was_lost_and_canceled_are_removed(database: Database, tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path, api_urls=("http://here:1",))
    desk = Desk(database=database, backend=ScriptedBackend(), settings=settings, wake=lambda **_: None)
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
