"""Requests that wait in a pool that may hold no gang any more, because an operator set its maximum to 0."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.states import REQUEST_MOVES, Reason
from orchestrator.store import journal, requests
from orchestrator.store.database import Record, Tx, logged
from orchestrator.store.prepared import prepared
from orchestrator.store.requests import FOLD

_WHY = "the pool keeps no warm gangs (max 0), set while it waited"
_FAILED = f"{_WHY}; ask for mode batch or auto, or raise the maximum and send it again"

_PLACE = logged(
    "UPDATE request SET placement = 'batch', placement_reason = :why, version = version + 1"
    " WHERE pool_id = :p AND placement = 'warm' AND mode = 'auto' AND state = ANY(:guard) RETURNING *",
    "place",
    FOLD,
)
_LIVING = prepared(
    "SELECT EXISTS (SELECT 1 FROM gang WHERE pool_id = :p AND mode = 'serve' AND state NOT IN ('gone', 'draining'))"
)


def release(tx: Tx, pool: Record) -> tuple[Sequence[str], Sequence[str]]:
    """Of a pool without gangs and room: `auto` requests get gangs of their own, `warm` ones fail. Both by ID.

    While a gang of a larger maximum lives on, it serves what waits.
    """
    if not pool.current or pool.max_gangs > 0 or tx.execute(_LIVING, {"p": pool.id}).scalar_one():
        return (), ()
    guard = REQUEST_MOVES["place"].guard
    rows = tx.execute(_PLACE, {"p": pool.id, "why": _WHY, "guard": guard}).all()
    for row in rows:
        journal.request(tx, "place", row)
    waiting = requests.queued_ids(tx, pool.id, "warm")
    return [row.id for row in rows], [
        r for r in waiting if requests.fail_queued(tx, r, Reason.NO_WARM_POOL, _FAILED, cause={})
    ]
