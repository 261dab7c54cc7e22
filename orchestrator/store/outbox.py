"""What webhooks are to be told: written by the statement that moves, sent later, never forgotten in between.

A move adds one row for each webhook that hears it, in its own statement, so there is no moment at which one exists
without the other and no cursor that could run past a transaction that commits late. Where nobody listens it is one
look into the index of an empty table.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from orchestrator.domain.lanes import LANE
from orchestrator.domain.webhooks import ORDERLY, DeliveryState, next_pause
from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared

_ORDERLY = ", ".join(f"'{reason}'" for reason in sorted(ORDERLY))


def _announced(type_: str, status: str, listening: str, more: str = "'{}'::jsonb") -> str:
    """A CTE after `moved`: a row for each webhook that hears it. Arguments are SQL over `moved m` and `webhook w`."""
    return f""", announced AS (
  INSERT INTO delivery (webhook_id, subject, seq, lane, type, status, at, more)
  SELECT w.id, m.id, m.version, w.lane, {type_}, {status}, statement_timestamp(), {more}
  FROM moved m JOIN webhook w ON {listening} AND {type_} = ANY(w.events) AND w.disabled_at IS NULL
)"""


_ENDPOINT = "w.hears = 't:' || m.tenant"
REQUEST_MOVED = _announced(
    "'request.' || m.state",
    "m.state",
    "w.hears = ANY(ARRAY['t:' || m.tenant, m.id]) AND w.tenant = m.tenant"
    " AND coalesce(w.digest, m.body_digest) = m.body_digest",
)
"""For every move to running or to an end. The hook of a request is its own only if both were sent in one body."""
GANG_READY = _announced("'gang.ready'", "'idle'", _ENDPOINT)
GANG_ENDED = _announced("'gang.lost'", "'gone'", f"{_ENDPOINT} AND m.reason_code NOT IN ({_ORDERLY})")
BATCH_MOVED = _announced(
    "'batch.' || m.state",
    "m.state",
    _ENDPOINT,
    "jsonb_strip_nulls(jsonb_build_object('outcome', m.outcome, 'reason', m.reason_code))",
)
"""For every move to an end or to a pause."""


def ticks_told(event: str, status: str) -> str:
    """CTEs after `moved`, ticks of one schedule that one statement decided: one message for all of them together."""
    return f""", decided AS (
  SELECT max(schedule_id) AS id, jsonb_strip_nulls(jsonb_build_object('tick', max(tick), 'ticks', count(*),
         'reason', max(reason_code), 'request', max(request_id), 'batch', max(batch_id))) AS more FROM moved
), told AS (
  UPDATE schedule s SET told = told + 1 FROM decided d WHERE s.id = d.id RETURNING s.id, s.tenant, s.told, d.more
), announced AS (
  INSERT INTO delivery (webhook_id, subject, seq, lane, type, status, at, more)
  SELECT w.id, t.id, t.told, w.lane, '{event}', '{status}', statement_timestamp(), t.more
  FROM told t JOIN webhook w ON w.hears = 't:' || t.tenant AND '{event}' = ANY(w.events) AND w.disabled_at IS NULL
)"""


TICK_FIRED = ticks_told("schedule.fired", "ran")
TICKS_SKIPPED = ticks_told("schedule.skipped", "skipped")

CLAIM = timedelta(seconds=60)
"""How long one replica has a delivery for itself: far longer than a send may take. After a crash another takes over."""

_DUE = prepared("""
WITH RECURSIVE lane AS (
  (SELECT d.lane FROM delivery d WHERE d.next_at IS NOT NULL ORDER BY d.lane LIMIT 1)
  UNION ALL
  SELECT (SELECT d.lane FROM delivery d WHERE d.next_at IS NOT NULL AND d.lane > l.lane ORDER BY d.lane LIMIT 1)
  FROM lane l WHERE l.lane IS NOT NULL
)
SELECT c.* FROM lane l CROSS JOIN LATERAL (
  SELECT d.webhook_id, d.subject, d.seq, d.lane, d.next_at FROM delivery d
  WHERE d.lane = l.lane AND d.next_at <= statement_timestamp() ORDER BY d.next_at LIMIT :room) c
ORDER BY c.next_at LIMIT 1000
""")


def due(tx: Tx) -> Sequence[Record]:
    """What may be sent now: of each lane no more than it may ever have open, the longest due first."""
    return tx.execute(_DUE, {"room": LANE}).all()


_CLAIM = prepared("""
WITH chosen AS MATERIALIZED (
  SELECT d.webhook_id, d.subject, d.seq
  FROM json_to_recordset(CAST(:keys AS json)) AS k (webhook_id text, subject text, seq int)
  JOIN delivery d USING (webhook_id, subject, seq)
  WHERE d.next_at <= statement_timestamp() FOR UPDATE OF d SKIP LOCKED
), claimed AS (
  UPDATE delivery d SET claim = :claim, tries = tries + 1, last_at = clock_timestamp(),
         next_at = clock_timestamp() + :seconds * interval '1 second'
  FROM chosen c WHERE (d.webhook_id, d.subject, d.seq) = (c.webhook_id, c.subject, c.seq) RETURNING d.*
)
SELECT c.*, w.url, w.disabled_at IS NOT NULL AS disabled, clock_timestamp() AS now,
       (SELECT coalesce(json_agg(json_build_object('owner', s.owner, 'key_id', s.key_id, 'nonce', s.nonce)
               ORDER BY s.generation DESC), '[]') FROM webhook_secret s
        WHERE s.owner = w.signed_by AND coalesce(s.expires_at, 'infinity') > statement_timestamp()) AS seeds
FROM claimed c JOIN webhook w ON w.id = c.webhook_id
""")


def claim(tx: Tx, chosen: Sequence[Record]) -> Sequence[Record]:
    """Those of `chosen` that nobody else took meanwhile: for `CLAIM` they are the caller's. Not in a lane's room."""
    keys = [{"webhook_id": one.webhook_id, "subject": one.subject, "seq": one.seq} for one in chosen]
    values = {"keys": json.dumps(keys), "claim": secrets.token_hex(8), "seconds": CLAIM.total_seconds()}
    return tx.execute(_CLAIM, values).all() if keys else []


DISABLED = "disabled"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of one send. `status`: of the receiver's answer, None if there was none."""

    status: int | None = None
    error: str | None = None
    """A code, without a word of what the receiver or the network said."""
    retry_after: timedelta | None = None

    @property
    def delivered(self) -> bool:
        return self.error is None and self.status is not None and 200 <= self.status < 300

    @property
    def outcome(self) -> str:
        """One word for it."""
        return "delivered" if self.delivered else self.error or "status"

    @property
    def gone(self) -> bool:
        """The receiver wants no more."""
        return self.status == 410 or self.error == DISABLED


_SETTLE = prepared("""
UPDATE delivery SET state = :state, claim = NULL, last_status = :status, last_error = :error,
       next_at = CASE WHEN :state = 'pending' THEN clock_timestamp() + :pause * interval '1 second' END
WHERE webhook_id = :webhook_id AND subject = :subject AND seq = :seq AND claim = :claim
RETURNING webhook_id
""")


def settle(tx: Tx, sent: Record, answer: Answer, chance: float) -> DeliveryState | None:
    """Record the answer to a claimed delivery: done, again later, or given up. None: the claim was over.

    `chance`: 0 to 1, spreads the next try.
    """
    pause = None if answer.delivered or answer.gone else next_pause(sent.tries, answer.retry_after, chance)
    state = DeliveryState.DELIVERED if answer.delivered else DeliveryState.PENDING if pause else DeliveryState.FAILED
    values = {
        "webhook_id": sent.webhook_id,
        "subject": sent.subject,
        "seq": sent.seq,
        "claim": sent.claim,
        "state": state,
        "status": answer.status,
        "error": answer.error,
        "pause": pause.total_seconds() if pause else 0,
    }
    if tx.execute(_SETTLE, values).one_or_none() is None:
        return None
    if answer.status == 410:
        disable(tx, sent.webhook_id, "the receiver answered 410 Gone")
    return state


def disable(tx: Tx, webhook_id: str, why: str) -> None:
    """It hears nothing more, and what waits for it is given up; `replay` sends that after all."""
    tx.execute(
        text(
            "UPDATE webhook SET disabled_at = clock_timestamp(), disabled = :why WHERE id = :id AND disabled_at IS NULL"
        ),
        {"id": webhook_id, "why": why},
    )
    tx.execute(
        text(
            "UPDATE delivery SET state = 'failed', next_at = NULL, claim = NULL, last_error = 'disabled',"
            " last_at = coalesce(last_at, clock_timestamp()) WHERE webhook_id = :id AND next_at IS NOT NULL"
        ),
        {"id": webhook_id},
    )


def prune(tx: Tx, keep: timedelta) -> int:
    """Deliveries that were over so long ago go, and hooks of single requests that are; says how many rows."""
    values = {"s": keep.total_seconds()}
    return sum(tx.execute(statement, values).rowcount for statement in (_PRUNE, _PRUNE_ORPHANS, _PRUNE_HOOKS))


_PRUNE = text("""
DELETE FROM delivery WHERE (webhook_id, subject, seq) IN (
  SELECT webhook_id, subject, seq FROM delivery
  WHERE next_at IS NULL AND last_at < (SELECT clock_timestamp()) - :s * interval '1 second' LIMIT 10000)
""")
_PRUNE_ORPHANS = text("""
DELETE FROM delivery d WHERE d.next_at IS NOT NULL AND NOT EXISTS (SELECT FROM webhook w WHERE w.id = d.webhook_id)
""")
"""Of a webhook that was deleted while a move wrote to it."""
_PRUNE_HOOKS = text("""
DELETE FROM webhook w WHERE w.digest IS NOT NULL
  AND (w.created_at < clock_timestamp() - :s * interval '1 second'
         AND NOT EXISTS (SELECT FROM request r WHERE r.id = w.hears AND r.finished_at IS NULL)
       OR w.created_at BETWEEN clock_timestamp() - interval '1 day' AND clock_timestamp() - interval '1 hour'
         AND NOT EXISTS (SELECT FROM request r WHERE r.id = w.hears))
  AND NOT EXISTS (SELECT FROM delivery d WHERE d.webhook_id = w.id AND d.next_at IS NOT NULL)
""")
"""Of requests that are over; and, once an hour old, of those that were refused or deleted."""
