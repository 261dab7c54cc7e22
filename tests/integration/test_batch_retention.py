"""Batches that were over long ago go with all that is theirs; what is open or still keeps an output never does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import builders as make
import pytest
from builders import Gang, Lease
from scripted_backend import ScriptedBackend
from sqlalchemy import text

from orchestrator.backends.places import Places
from orchestrator.domain.batches import Counts
from orchestrator.domain.states import BatchReason, BatchState, Outcome
from orchestrator.errors import Conflict, NotFound
from orchestrator.loops import purge, upkeep
from orchestrator.loops.desk import Desk
from orchestrator.settings import Settings
from orchestrator.store import batch_figures, batch_retention, batches, items, requests
from orchestrator.store.batches import Refusal
from orchestrator.store.database import Database, Tx

TABLES = ("payload", "progress", "result", "output", "log_chunk")


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Iterator[Desk]:
    settings = Settings(folder=tmp_path, api_urls=("http://here:1",))
    yield Desk(database=database, places=Places(ScriptedBackend()), settings=settings, wake=lambda **_: None)


def over(tx: Tx, desk: Desk, *, keep_s: float = 0.001) -> tuple[str, list[str]]:
    """A batch that is over: an item with an output, one that was lost first, one that failed, one that never ran."""
    pool = make.pool(tx, batch={"max_gangs": 4})
    batch_id = make.batch(tx, pool, items=4)
    batches.note_refusals(tx, batch_id, [Refusal(line=9, code="bad_json", message="no JSON")])
    assert batches.start(tx, batch_id)
    ids = [str(make.item(tx, batch_id, line).id) for line in (1, 2, 3, 4)]
    tx.execute(text("UPDATE request SET output_ttl_s = :s WHERE batch_id = :b"), {"s": keep_s, "b": batch_id})
    gang = make.ready(tx, pool, batch_id=batch_id)
    make.finish(tx, _pulled(tx, gang), outputs=[_written(desk, ids[0])])
    make.lose(tx, _pulled(tx, gang))
    _written(desk, ids[1])  # by the attempt that was lost: nobody but the mark knows of it
    another = make.ready(tx, pool, batch_id=batch_id)
    tx.execute(text("UPDATE request SET run_at = clock_timestamp() WHERE id = :id"), {"id": ids[1]})
    for outcome in (Outcome.SUCCEEDED, Outcome.FAILED):
        make.finish(tx, _pulled(tx, another), outcome)
    assert batches.end(tx, batch_id, BatchState.CANCELED, BatchReason.ASKED, "enough")
    row = make.batch_row(tx, batch_id)
    items.end_queued(tx, row, "cancel", code=None, why="its batch ended", error=None, limit=10)
    counts = Counts(items=4, leased=0, succeeded=2, failed=1, canceled=1, expired=0)
    assert batches.close(tx, batch_id, BatchState.CANCELED, counts)
    return batch_id, ids


def _pulled(tx: Tx, gang: Gang) -> Lease:
    lease = make.pull(tx, gang)
    assert lease is not None
    return lease


def _written(desk: Desk, request_id: str) -> dict[str, object]:
    place = desk.settings.folder / "outputs" / "default" / request_id / "1" / "a.gif"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"GIF")
    return {"name": "a.gif", "media_type": "image/gif", "bytes": 3, "sha256": "0" * 64, "uri": place.as_uri()}


def age(tx: Tx, batch_id: str, days: int = 91) -> None:
    tx.execute(
        text("UPDATE batch SET finished_at = finished_at - :d * interval '1 day' WHERE id = :b"),
        {"d": days, "b": batch_id},
    )


def left(tx: Tx, ids: list[str]) -> dict[str, int]:
    """Rows that say something of these IDs, by table."""
    columns = {
        "request": "id",
        "event": "subject",
        "batch_refusal": "batch_id",
        "batch_tally": "batch_id",
        "batch": "id",
    }
    columns |= dict.fromkeys(TABLES, "request_id")
    found = {
        table: tx.execute(text(f"SELECT count(*) FROM {table} WHERE {column} = ANY(:ids)"), {"ids": ids}).scalar_one()
        for table, column in columns.items()
    }
    return {table: n for table, n in found.items() if n}


def test_a_batch_goes_with_its_items_and_their_files_when_its_time_is_over(desk: Desk) -> None:
    old, ids = desk.database.transact(lambda tx: over(tx, desk))
    young, other = desk.database.transact(lambda tx: over(tx, desk))
    desk.database.transact(lambda tx: age(tx, old))
    desk.database.transact(lambda tx: age(tx, young, 89))
    assert upkeep.run_once(desk).did["removed_batches"] == [old]
    assert desk.database.transact(lambda tx: left(tx, [old, *ids])) == {}
    assert desk.database.transact(lambda tx: left(tx, [young, *other]))["request"] == 4
    with pytest.raises(NotFound):
        desk.database.transact(lambda tx: batch_figures.get(tx, "default", old))
    with pytest.raises(NotFound) as refusal:
        desk.database.transact(lambda tx: requests.get(tx, "default", ids[0]))
    assert refusal.value.code == "purged"
    due = text("UPDATE purged SET remove_at = clock_timestamp() WHERE remove_at IS NOT NULL")
    desk.database.transact(lambda tx: tx.execute(due))
    purge.run_once(desk)
    outputs = desk.settings.folder / "outputs" / "default"
    assert {one.name for one in outputs.iterdir()} == {other[1]}
    assert "removed_batches" not in upkeep.run_once(desk).did


def test_an_open_batch_never_goes_however_old(desk: Desk) -> None:
    def work(tx: Tx) -> None:
        pool = make.pool(tx)
        made = [make.batch(tx, pool) for _ in range(3)] + [make.validating(tx, pool)]
        assert batches.start(tx, made[1])
        assert batches.pause(tx, made[2], BatchReason.ASKED, "wait")
        reopened, _ = over(tx, desk)
        assert batches.reopen(tx, reopened, 0) and items.repeat(tx, batch_figures.lock_own(tx, "default", reopened))
        tx.execute(text("UPDATE batch SET created_at = created_at - interval '10 years'"))

    desk.database.transact(work)
    assert "removed_batches" not in upkeep.run_once(desk).did
    assert desk.database.transact(lambda tx: tx.execute(text("SELECT count(*) FROM batch")).scalar_one()) == 5


def test_a_batch_stays_as_long_as_an_output_of_it_is_kept(desk: Desk) -> None:
    batch_id, ids = desk.database.transact(lambda tx: over(tx, desk, keep_s=3600))
    desk.database.transact(lambda tx: age(tx, batch_id))
    assert "removed_batches" not in upkeep.run_once(desk).did
    expire = text("UPDATE output SET expires_at = clock_timestamp() WHERE request_id = :id")
    desk.database.transact(lambda tx: tx.execute(expire, {"id": ids[0]}))
    assert upkeep.run_once(desk).did["removed_batches"] == [batch_id]


def test_a_batch_that_somebody_is_about_to_resume_is_left_alone(desk: Desk) -> None:
    batch_id, _ = desk.database.transact(lambda tx: over(tx, desk))
    desk.database.transact(lambda tx: age(tx, batch_id))

    def work(tx: Tx) -> None:
        row = batch_figures.lock_own(tx, "default", batch_id)
        assert "removed_batches" not in upkeep.run_once(desk).did
        assert batches.reopen(tx, batch_id, 0) and items.repeat(tx, row) == 2

    desk.database.transact(work)
    assert "removed_batches" not in upkeep.run_once(desk).did


def test_marks_go_after_another_90_days_with_the_last_that_was_known(desk: Desk) -> None:
    batch_id, ids = desk.database.transact(lambda tx: over(tx, desk))
    desk.database.transact(lambda tx: age(tx, batch_id))
    upkeep.run_once(desk)
    query = text(
        "SELECT (SELECT count(*) FROM purged) AS marks, (SELECT count(*) FROM usage) AS usages,"
        " (SELECT count(*) FROM attempt) AS attempts"
    )
    assert tuple(desk.database.transact(lambda tx: tx.execute(query).one())) == (5, 4, 4)
    old = text("UPDATE purged SET remove_at = NULL, purged_at = purged_at - interval '91 days' WHERE id <> :id")
    desk.database.transact(lambda tx: tx.execute(old, {"id": ids[3]}))
    assert upkeep.run_once(desk).did["forgot_marks"] == ["4"]
    assert tuple(desk.database.transact(lambda tx: tx.execute(query).one())) == (1, 1, 0)
    with pytest.raises(NotFound) as refusal:
        desk.database.transact(lambda tx: requests.get(tx, "default", ids[0]))
    assert refusal.value.code == "not_found"


def test_a_tenant_deletes_its_own_batch_once_it_is_over_outputs_and_all(desk: Desk) -> None:
    batch_id, ids = desk.database.transact(lambda tx: over(tx, desk, keep_s=3600))
    open_ = desk.database.transact(lambda tx: make.batch(tx, make.pool(tx)))
    with pytest.raises(Conflict) as refusal:
        desk.database.transact(lambda tx: batch_retention.purge(tx, "default", open_))
    assert refusal.value.code == "not_terminal"
    other = desk.database.transact(make.tenant)
    with pytest.raises(NotFound):
        desk.database.transact(lambda tx: batch_retention.purge(tx, other, batch_id))
    desk.database.transact(lambda tx: batch_retention.purge(tx, "default", batch_id))
    assert desk.database.transact(lambda tx: left(tx, [batch_id, *ids])) == {}
    assert desk.database.transact(lambda tx: left(tx, [open_]))["batch"] == 1
    due = text("UPDATE purged SET remove_at = clock_timestamp() WHERE remove_at IS NOT NULL")
    desk.database.transact(lambda tx: tx.execute(due))
    assert set(purge.run_once(desk).did["purged"]) == set(ids[:2])
    assert list((desk.settings.folder / "outputs" / "default").iterdir()) == []
