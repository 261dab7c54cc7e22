"""Looks at the lines of batches that name where they are. A duty of its own: a slow storage, or a hundred thousand
lines, must not hold up what is decided about other batches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from orchestrator.errors import MusterError
from orchestrator.loops.desk import Desk, Report
from orchestrator.store import batches
from orchestrator.store.database import Record

log = logging.getLogger("muster.batches")

VALIDATION = timedelta(minutes=10)
"""How long a replica may look at the lines of a batch before another one begins anew."""
Read = Callable[[Record], None]


def run_once(desk: Desk, read: Read) -> Report:
    """One batch: `read` looks at its lines, and accepts or refuses it."""
    report = Report()
    named = desk.database.transact(lambda tx: batches.claim_validation(tx, VALIDATION))
    if named is None:
        return report
    try:
        read(named)
    except MusterError as error:  # the database or the storage is away: when the claim is over, somebody tries again
        said = {"action": "unread", "batch": named.id}
        log.warning("the lines of batch %s were not read: %s", named.id, error.message, extra=said)
    else:
        report.note("read", named.id)
    return report
