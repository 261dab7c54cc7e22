"""Those who speak for a gang: that they belong to its current incarnation, what it is to do, and that it lives.

Each call proves with the incarnation token that it speaks for the current incarnation; a newer hello ends that.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from orchestrator.domain.states import GangState, Reason
from orchestrator.errors import StaleLease, Unauthorized
from orchestrator.store import attempts
from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared


@dataclass(frozen=True, kw_only=True)
class Member:
    """A caller that proved to belong to the current incarnation of its gang."""

    gang: str
    incarnation: int
    state: GangState
    mode: str
    pool_id: str
    batch_id: str | None
    world: int
    replicas: int


_MEMBER = (
    "SELECT state, incarnation, session_hash, mode, pool_id, batch_id, world, replicas, reason FROM gang WHERE id = :id"
)
_FIND_MEMBER = prepared(_MEMBER)
_LOCK_MEMBER = prepared(f"{_MEMBER} FOR UPDATE")


def member(tx: Tx, gang_id: str, session_hash: bytes) -> Member:
    """Raises StaleLease: `gang_gone`, or `gang_superseded` when the token belongs to no current incarnation."""
    return _member(tx.execute(_FIND_MEMBER, {"id": gang_id}).one_or_none(), gang_id, session_hash)


def last_word(tx: Tx, gang_id: str, session_hash: bytes) -> Member:
    """As `member`, for what may end the incarnation: no other one can begin before this transaction is over."""
    row = tx.execute(_LOCK_MEMBER, {"id": gang_id}).one_or_none()
    return _member(row, gang_id, session_hash)


def _member(row: Record | None, gang_id: str, session_hash: bytes) -> Member:
    if row is None:
        raise Unauthorized(f"no gang {gang_id}")
    if row.state == GangState.GONE:
        raise StaleLease(f"gang {gang_id} is gone: {row.reason}", code="gang_gone")
    if row.session_hash is None or not hmac.compare_digest(bytes(row.session_hash), session_hash):
        raise StaleLease(f"gang {gang_id} has another incarnation now", code="gang_superseded")
    return Member(
        gang=gang_id,
        incarnation=row.incarnation,
        state=GangState(row.state),
        mode=row.mode,
        pool_id=row.pool_id,
        batch_id=row.batch_id,
        world=row.world,
        replicas=row.replicas,
    )


_WORK = prepared("""
SELECT g.state, g.incarnation, g.session_hash, g.mode, g.pool_id, g.batch_id, g.world, g.replicas, g.reason,
       g.tenant, g.state = 'draining' AND EXISTS (
         SELECT FROM attempt o WHERE o.gang_id = g.id AND o.slot <> :slot AND o.ended_at IS NULL) AS others_run,
       a.id AS attempt, a.number, a.token, r.id AS request, r.state AS request_state, p.input, p.files, s.spec,
       p.traceparent, p.tracestate,
       extract(epoch FROM a.granted_at + r.timeout_s * interval '1 second' - clock_timestamp()) AS timeout_s,
       extract(epoch FROM clock_timestamp() - a.granted_at) AS granted_ago_s
FROM gang g JOIN pool s ON s.id = g.pool_id
LEFT JOIN attempt a ON a.gang_id = g.id AND a.incarnation = g.incarnation AND a.slot = :slot AND a.ended_at IS NULL
LEFT JOIN request r ON r.id = a.request_id
LEFT JOIN payload p ON p.request_id = a.request_id
WHERE g.id = :id ORDER BY a.granted_at
""")


@dataclass(frozen=True, kw_only=True)
class Duty:
    """What a replica of a gang is to do: the leases of its slot, and whether to leave."""

    leases: Sequence[Record]
    drain: bool


def work(tx: Tx, gang_id: str, session_hash: bytes, slot: int = 0) -> tuple[Member, Duty]:
    """The live leases of a slot of the caller's incarnation. One that is being canceled and never ran ends here.

    A gang leaves as a whole: no replica before the last one has nothing to do.
    """
    rows = tx.execute(_WORK, {"id": gang_id, "slot": slot}).all()
    who = _member(rows[0] if rows else None, gang_id, session_hash)
    leases = [row for row in rows if row.attempt is not None]
    if any(row.request_state == "canceling" for row in leases):
        for row in attempts.live_on(tx, gang_id):
            if row.state == "canceling" and row.slot == slot:
                attempts.lose(tx, row, Reason.STOPPED, "canceled before it ran", crashed=False)
        return work(tx, gang_id, session_hash, slot)
    return who, Duty(leases=leases, drain=who.state is GangState.DRAINING and not rows[0].others_run)


def others_run(tx: Tx, who: Member, slot: int) -> bool:
    """Whether another replica of the gang than that of the slot has a lease."""
    if who.replicas == 1:
        return False
    query = text("SELECT EXISTS (SELECT FROM attempt WHERE gang_id = :g AND slot <> :slot AND ended_at IS NULL)")
    return bool(tx.execute(query, {"g": who.gang, "slot": slot}).scalar_one())


_BEAT = prepared("""
UPDATE gang_beat SET seen_at = clock_timestamp(), ranks = CAST(:ranks AS jsonb), starting = :starting,
       starting_at = CASE WHEN starting IS NOT DISTINCT FROM :starting THEN starting_at ELSE clock_timestamp() END
WHERE gang_id = :gang AND incarnation = :incarnation
""")


_BEAT_OF_REPLICA = prepared("""
UPDATE gang_beat b SET heard[CAST(:slot AS int) + 1] = clock_timestamp(),
       seen_at = (SELECT min(CASE WHEN h.slot = :slot + 1 THEN clock_timestamp() ELSE h.at END)
                  FROM unnest(b.heard) WITH ORDINALITY h (at, slot)),
       ranks = (SELECT coalesce(jsonb_agg(r ORDER BY (r ->> 'rank')::int), '[]') FROM (
                  SELECT r FROM jsonb_array_elements(b.ranks) r WHERE (r ->> 'rank')::int / :size <> :slot
                  UNION ALL SELECT r FROM jsonb_array_elements(CAST(:ranks AS jsonb)) r) every),
       starting = CASE WHEN :slot = 0 THEN :starting ELSE starting END,
       starting_at = CASE WHEN :slot <> 0 OR starting IS NOT DISTINCT FROM :starting THEN starting_at
                          ELSE clock_timestamp() END
WHERE gang_id = :gang AND incarnation = :incarnation AND :slot < cardinality(heard)
""")
"""The gang is as alive as the replica that was silent longest; the first one tells the phase of the start."""


def beat(
    tx: Tx, gang_id: str, incarnation: int, ranks: Sequence[Mapping[str, Any]], starting: str | None = None
) -> None:
    """The incarnation lives: renews all its leases. `starting` is the phase of its start, while that lasts."""
    values = {"gang": gang_id, "incarnation": incarnation, "ranks": json.dumps(list(ranks)), "starting": starting}
    tx.execute(_BEAT, values)


def beat_of_replica(
    tx: Tx, who: Member, slot: int, ranks: Sequence[Mapping[str, Any]], starting: str | None = None
) -> None:
    """As `beat`, of a gang with several replicas: the one of this slot lives."""
    values = {"gang": who.gang, "incarnation": who.incarnation, "ranks": json.dumps(list(ranks)), "starting": starting}
    tx.execute(_BEAT_OF_REPLICA, {**values, "slot": slot, "size": who.world // who.replicas})
