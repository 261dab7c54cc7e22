"""Few statements, but the same story: nobody can tell a request that a free gang took at once from any other."""

from __future__ import annotations

import builders as make
from builders import LEASE
from sqlalchemy import text

from orchestrator.domain.states import Outcome
from orchestrator.store import express, invariants
from orchestrator.store.attempts import Finish
from orchestrator.store.database import Tx
from orchestrator.store.tokens import digest


def test_a_request_that_a_free_gang_takes_at_once_is_recorded_before_it_is_assigned(tx: Tx) -> None:
    pool = make.pool(tx)
    gang = make.ready(tx, pool)
    new = make.new_request(pool)
    assignment = express.free_gang(tx, pool.id, new.id, new.tenant, LEASE)
    assert assignment is not None
    lease = express.record_and_assign(tx, new, assignment, pool.spec)
    assert lease is not None
    row = make.request_row(tx, new.id)
    events = tx.execute(text("SELECT move, at FROM event WHERE subject = :r ORDER BY seq"), {"r": new.id}).all()
    assert [tuple(event) for event in events] == [("record", row.created_at), ("assign", row.assigned_at)]
    report = Finish(token=lease.token, outcome=Outcome.SUCCEEDED, digest=b"1", run_s=0.1)
    assert express.succeed(tx, lease.attempt, digest(gang.session), report) is not None
    assert invariants.check(tx) == []
