"""Requests that are over and whose gangs may not have lived to remove their checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import text

from orchestrator.store.database import Record, Tx


def of_requests(tx: Tx, within: timedelta) -> Sequence[Record]:
    """`tenant` and `id` of those that ended within that time, but for a success at the first try."""
    return tx.execute(
        text(
            "SELECT tenant, id FROM request WHERE finished_at > (SELECT clock_timestamp()) - :s * interval '1 second'"
            " AND attempts >= 1 AND (attempts > 1 OR state <> 'succeeded')"
        ),
        {"s": within.total_seconds()},
    ).all()
