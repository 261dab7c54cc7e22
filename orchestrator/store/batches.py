"""Batches as rows: recorded, accepted, moved. Figures are in batch_figures.py, what items do is in items.py."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import TextClause, text

from orchestrator.domain.batches import Counts, outcome
from orchestrator.domain.states import BATCH_MOVES, BATCH_OVER, BatchReason, BatchState
from orchestrator.errors import Conflict, Invalid
from orchestrator.store import journal, outbox
from orchestrator.store.database import Record, Tx, logged

FOLD = (
    "jsonb_build_object('state', state, 'ending', ending, 'outcome', outcome, 'reason_code', reason_code,"
    " 'reason', reason, 'items', items)"
)


@dataclass(frozen=True, kw_only=True)
class NewBatch:
    """A batch whose parameters passed all checks."""

    id: str
    tenant: str
    template: str
    template_version: int
    pool_id: str
    source: str | None
    """Where its lines are; None if they came with the call."""
    strict: bool
    max_parallel: int
    shared: bool
    max_failed: str | None
    on_max_failed: str
    priority: int
    labels: Mapping[str, str]
    expire_after_s: float | None
    idempotency_key: str | None
    body_digest: bytes
    traceparent: str | None = None
    """What its caller said of its trace."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a line is no item."""

    line: int
    code: str
    message: str
    custom_id: str | None = None
    pointer: str | None = None


# ------------------------------------------------------------------------------------------------------ record, accept

_RECORD = text(f"""
WITH moved AS (
  INSERT INTO batch (id, tenant, template, template_version, pool_id, state, source, strict, max_parallel, shared,
                     max_failed, on_max_failed, priority, labels, idempotency_key, body_digest, expire_after_s,
                     traceparent, expires_at, due_at, next_check_at)
  VALUES (:id, :tenant, :template, :template_version, :pool_id, 'validating', :source, :strict, :max_parallel, :shared,
          :max_failed, :on_max_failed, :priority, CAST(:labels AS jsonb), :idempotency_key, :body_digest,
          :expire_after_s, :traceparent, clock_timestamp() + :expire_after_s * interval '1 second',
          clock_timestamp() - :priority * interval '1 minute', clock_timestamp())
  ON CONFLICT DO NOTHING RETURNING *
), logged AS (
  INSERT INTO event (subject, seq, move, data) SELECT id, version, 'record', {FOLD} FROM moved
)
SELECT * FROM moved
""")


_PATIENTLY = text("SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '60s'")


def record(tx: Tx, new: NewBatch) -> Record | None:
    """The batch, validating; None if another one holds its idempotency key: see `replayed`.

    Another one under the key may be about to be stored, with all its items: that is waited for.
    """
    tx.execute(_PATIENTLY)
    return _moved(tx, _RECORD, "record", {**vars(new), "labels": json.dumps(dict(new.labels))})


def _moved(tx: Tx, statement: TextClause, move: str, values: Mapping[str, Any]) -> Record | None:
    """The row after the move; None if it is not legal now."""
    row = tx.execute(statement, values).one_or_none()
    if row is not None:
        journal.batch(tx, move, row)
    return row


def replayed(tx: Tx, tenant: str, key: str, body_digest: bytes) -> str | None:
    """The batch that holds the key, if it was sent with the same lines and parameters; None if nobody holds it."""
    row = tx.execute(
        text("SELECT id, body_digest FROM batch WHERE tenant = :t AND idempotency_key = :k"), {"t": tenant, "k": key}
    ).one_or_none()
    if row is None:
        return None
    if bytes(row.body_digest) != body_digest:
        raise Invalid(
            f"Idempotency-Key {key!r} was used for another batch; choose a new key", code="idempotency_key_reused"
        )
    return str(row.id)


def holds(tx: Tx, tenant: str, key: str | None) -> bool:
    """Whether a batch has the key."""
    query = text("SELECT EXISTS (SELECT FROM batch WHERE tenant = :t AND idempotency_key = :k)")
    return bool(tx.execute(query, {"t": tenant, "k": key}).scalar_one())


def count_open(tx: Tx, tenant: str) -> int:
    """Batches of the tenant that are not over."""
    query = text("SELECT count(*) FROM batch WHERE tenant = :t AND next_check_at IS NOT NULL")
    return int(tx.execute(query, {"t": tenant}).scalar_one())


def is_validating(tx: Tx, batch_id: str) -> bool:
    """Whether its lines are still to be looked at; it stays so until the transaction is over."""
    query = text("SELECT state = 'validating' FROM batch WHERE id = :id FOR UPDATE")
    return bool(tx.execute(query, {"id": batch_id}).scalar_one_or_none())


def forget_idempotency_keys(tx: Tx) -> int:
    """Free the keys of batches older than a week: cron may repeat a nightly batch late."""
    moved = tx.execute(
        text(
            "UPDATE batch SET idempotency_key = NULL WHERE idempotency_key IS NOT NULL"
            " AND created_at < clock_timestamp() - interval '7 days'"
        )
    )
    return moved.rowcount


_ACCEPT = logged(
    "UPDATE batch SET state = 'queued', items = :items, accepted_at = clock_timestamp(),"
    " next_check_at = clock_timestamp(), version = version + 1 WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "accept",
    FOLD,
)
_REFUSE = logged(
    "UPDATE batch SET state = 'failed', outcome = 'none_succeeded', reason_code = :code, reason = :why,"
    " finished_at = clock_timestamp(), next_check_at = NULL, version = version + 1"
    " WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "refuse",
    FOLD,
    outbox.BATCH_MOVED,
)
_REFUSED = text("""
INSERT INTO batch_refusal (batch_id, line, custom_id, code, message, pointer)
SELECT :b, line, custom_id, code, message, pointer FROM json_to_recordset(CAST(:refused AS json))
  AS r (line int, custom_id text, code text, message text, pointer text)
ON CONFLICT DO NOTHING
""")


def accept(tx: Tx, batch_id: str, items: int) -> bool:
    """All its items are recorded in this transaction; from its end on they may start."""
    values = {"id": batch_id, "items": items, "guard": BATCH_MOVES["accept"].guard}
    row = _moved(tx, _ACCEPT, "accept", values)
    if row is not None:
        journal.items(tx, "record", "queued", row, items)
    return row is not None


def refuse(tx: Tx, batch_id: str, reason: BatchReason, why: str, refusals: Iterable[Refusal] = ()) -> bool:
    """Its lines, or where they should be, cannot be accepted."""
    values = {"id": batch_id, "code": reason, "why": why, "guard": BATCH_MOVES["refuse"].guard}
    if _moved(tx, _REFUSE, "refuse", values) is None:
        return False
    note_refusals(tx, batch_id, refusals)
    return True


def note_refusals(tx: Tx, batch_id: str, refusals: Iterable[Refusal]) -> None:
    """Lines that are no items."""
    if told := [vars(refusal) for refusal in refusals]:
        tx.execute(_REFUSED, {"b": batch_id, "refused": json.dumps(told)})


# --------------------------------------------------------------------------------------------------------------- moves

_START = logged(
    "UPDATE batch SET state = 'running', started_at = coalesce(started_at, clock_timestamp()), version = version + 1"
    " WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "start",
    FOLD,
)
_PAUSE = logged(
    "UPDATE batch SET state = 'paused', reason_code = :code, reason = :why, version = version + 1"
    " WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "pause",
    FOLD,
    outbox.BATCH_MOVED,
)
_RESUME = logged(
    "UPDATE batch SET state = 'queued', reason_code = NULL, reason = NULL, forgiven = :failed,"
    " next_check_at = clock_timestamp(), version = version + 1 WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "resume",
    FOLD,
)
_REOPEN = logged(
    "UPDATE batch SET state = 'queued', ending = NULL, outcome = NULL, reason_code = NULL, reason = NULL,"
    " finished_at = NULL, forgiven = :failed, next_check_at = clock_timestamp(),"
    " expires_at = clock_timestamp() + expire_after_s * interval '1 second', version = version + 1"
    " WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "reopen",
    FOLD,
)
_END = logged(
    "UPDATE batch SET state = 'finalizing', ending = :ending, reason_code = :code, reason = :why,"
    " next_check_at = clock_timestamp(), version = version + 1 WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "end",
    FOLD,
)
_HALT = logged(
    "UPDATE batch SET ending = 'canceled', reason_code = :code, reason = :why, next_check_at = clock_timestamp(),"
    " version = version + 1 WHERE id = :id AND state = ANY(:guard) AND ending IN ('expired', 'failed') RETURNING *",
    "halt",
    FOLD,
)
_CLOSING = {
    move: logged(
        "UPDATE batch SET state = :state, outcome = :outcome, finished_at = clock_timestamp(), next_check_at = NULL,"
        " version = version + 1 WHERE id = :id AND state = ANY(:guard) AND ending = :state RETURNING *",
        move,
        FOLD,
        outbox.BATCH_MOVED,
    )
    for move in ("complete", "cancel", "expire", "fail")
}
_MOVE_TO = {BATCH_MOVES[move].target: move for move in _CLOSING}


def start(tx: Tx, batch_id: str) -> bool:
    """Its first item got a gang."""
    return _moved(tx, _START, "start", {"id": batch_id, "guard": BATCH_MOVES["start"].guard}) is not None


def pause(tx: Tx, batch_id: str, reason: BatchReason, why: str) -> bool:
    """No item starts from now on."""
    values = {"id": batch_id, "code": reason, "why": why, "guard": BATCH_MOVES["pause"].guard}
    return _moved(tx, _PAUSE, "pause", values) is not None


def resume(tx: Tx, batch_id: str, failed: int) -> bool:
    """Items may start again; `failed` of them are forgiven."""
    values = {"id": batch_id, "failed": failed, "guard": BATCH_MOVES["resume"].guard}
    return _moved(tx, _RESUME, "resume", values) is not None


def reopen(tx: Tx, batch_id: str, failed: int) -> bool:
    """It is over, and some of its items are about to be tried again. A deadline counts anew."""
    values = {"id": batch_id, "failed": failed, "guard": BATCH_MOVES["reopen"].guard}
    return _moved(tx, _REOPEN, "reopen", values) is not None


def end(tx: Tx, batch_id: str, ending: BatchState, reason: BatchReason | None, why: str | None) -> bool:
    """No item starts from now on; when all are over, `ending` comes."""
    values = {"id": batch_id, "ending": ending, "code": reason, "why": why, "guard": BATCH_MOVES["end"].guard}
    return _moved(tx, _END, "end", values) is not None


def cancel(tx: Tx, batch_id: str, why: str) -> bool:
    """No item starts from now on, and what runs is asked to stop, also if it was to run to its end."""
    if end(tx, batch_id, BatchState.CANCELED, BatchReason.ASKED, why):
        return True
    values = {"id": batch_id, "code": BatchReason.ASKED, "why": why, "guard": BATCH_MOVES["halt"].guard}
    return _moved(tx, _HALT, "halt", values) is not None


def close(tx: Tx, batch_id: str, state: BatchState, counts: Counts) -> bool:
    """All its items are over."""
    move = _MOVE_TO[state]
    values = {"id": batch_id, "state": state, "outcome": outcome(counts), "guard": BATCH_MOVES[move].guard}
    return _moved(tx, _CLOSING[move], move, values) is not None


# --------------------------------------------------------------------------------------------------------------- looks

_DUE = text(
    "SELECT id FROM batch WHERE next_check_at <= (SELECT clock_timestamp()) AND state <> 'validating'"
    " ORDER BY next_check_at LIMIT :n"
)
_CLAIM = text(
    "UPDATE batch SET next_check_at = clock_timestamp() + :s * interval '1 second' WHERE id = (SELECT id FROM batch"
    " WHERE state = 'validating' AND next_check_at <= (SELECT clock_timestamp()) ORDER BY next_check_at LIMIT 1"
    " FOR UPDATE SKIP LOCKED) RETURNING *"
)


def due(tx: Tx, limit: int = 100) -> Sequence[str]:
    """Open batches whose clock rang."""
    return tx.execute(_DUE, {"n": limit}).scalars().all()


def claim_validation(tx: Tx, patience: timedelta) -> Record | None:
    """A batch whose lines nobody looks at; others leave it alone for so long."""
    return tx.execute(_CLAIM, {"s": patience.total_seconds()}).one_or_none()


_WIND = text("""
UPDATE batch SET next_check_at = least(CASE WHEN expires_at > clock_timestamp() THEN expires_at END,
                                       clock_timestamp() + :s * interval '1 second')
WHERE id = :id AND next_check_at IS NOT NULL
""")
"""A deadline that has passed is no time to look again: its batch would be first in line for as long as it ends."""


def wind(tx: Tx, batch_id: str, after: timedelta) -> None:
    """Nothing is due: look again after this long, or at the deadline."""
    tx.execute(_WIND, {"id": batch_id, "s": after.total_seconds()})


def ring(tx: Tx, batch_id: str) -> None:
    """Something happened to an item that decides about the batch."""
    tx.execute(
        text("UPDATE batch SET next_check_at = clock_timestamp() WHERE id = :id AND next_check_at IS NOT NULL"),
        {"id": batch_id},
    )


def refuse_to_pause(row: Record) -> None:
    """Raises Conflict where there is nothing to pause: not yet, or not any more."""
    if row.state == BatchState.VALIDATING:
        words = f"the lines of batch {row.id} are still looked at: none has started"
        raise Conflict(words, code="batch_validating")
    if row.state in BATCH_OVER or row.state == BatchState.FINALIZING:
        raise Conflict(f"batch {row.id} is {row.state}: it cannot be paused", code="batch_over")
