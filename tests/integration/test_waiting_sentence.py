"""The sentence of a request that waits: its place, when it is due, and what it waits for."""

from __future__ import annotations

import re

import builders as make
from sqlalchemy import text

from orchestrator.api.waiting import explain
from orchestrator.store import members, requests
from orchestrator.store.database import Tx


def said(tx: Tx, request_id: str) -> str | None:
    return explain(tx, requests.get(tx, "default", request_id))


def test_a_cold_start_is_told_by_its_phase_against_what_is_usual(tx: Tx) -> None:
    pool = make.pool(tx, pool={"max": 1})
    waits, gang = make.queued(tx, pool), make.loading(tx, pool)
    members.beat(tx, gang.id, gang.incarnation, [], "setup")
    assert re.fullmatch(rf"position 1; cold start: setup, \d+ s; gang {gang.id}", said(tx, waits) or "")
    seen = text(
        "UPDATE gang SET first_ready_at = launched_at + interval '95 s', state = 'gone', gone_at = now(),"
        " next_check_at = NULL WHERE id = :g"
    )
    old = make.ready(tx, pool)
    tx.execute(text("SAVEPOINT past"))
    tx.execute(seen, {"g": old.id})
    usual = rf"position 1; cold start: setup, \d+ s of usually 1m35s; gang {gang.id}"
    assert re.fullmatch(usual, said(tx, waits) or "")
    tx.execute(text("ROLLBACK TO past"))


def test_a_place_in_the_queue_has_an_eta_once_a_run_was_seen(tx: Tx) -> None:
    pool = make.pool(tx, pool={"max": 1})
    lease = make.running(tx, pool)
    first, second = make.queued(tx, pool), make.queued(tx, pool)
    assert said(tx, first) == "position 1; 1 of 1 gangs busy"
    make.finish(tx, lease, run_s=90.0)
    assert list(make.assign(tx, pool)) == [lease.gang.id]
    third = make.queued(tx, pool)
    assert said(tx, second) == "position 1, eta 45 s; 1 of 1 gangs busy"
    assert said(tx, third) == "position 2, eta 2m15s; 1 of 1 gangs busy"


def test_an_item_says_that_others_have_the_gangs_of_its_template(tx: Tx) -> None:
    pool = make.pool(tx, batch={"max_gangs": 1})
    first, second = make.batch(tx, pool), make.batch(tx, pool)
    waits = make.item(tx, second, 1).id
    assert said(tx, waits) == f"position 1 in {second}; a gang is about to be launched"
    gang = make.planned(tx, pool, batch_id=first)
    assert said(tx, waits) == f"position 1 in {second}; another has the one gang that batches of this template may have"
    assert str(said(tx, make.item(tx, first, 1).id)).endswith(f"gang {gang.id}")
