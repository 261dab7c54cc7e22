"""Incarnations: one life of a gang's process group, from hello to its end, and every call that its ranks make.

Each call proves with the incarnation token that it speaks for the current incarnation; a newer hello ends that.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from orchestrator.domain import arrival
from orchestrator.domain.pool_plan import MAX_BREAKS
from orchestrator.domain.states import GANG_MOVES, GangState, Reason
from orchestrator.errors import Conflict, StaleLease, Unauthorized
from orchestrator.store import arrivals, journal, members, outbox, rank_errors
from orchestrator.store.attempts import Finished
from orchestrator.store.database import Record, Tx, logged
from orchestrator.store.gangs import FOLD, Ended, drain, end, lose_leases
from orchestrator.store.tokens import digest


@dataclass(frozen=True, kw_only=True)
class Rank:
    """What a rank says of itself."""

    rank: int
    node: str
    pid: int | None
    local_rank: int | None
    device: str | None


@dataclass(frozen=True, kw_only=True)
class Born:
    """A new incarnation, and what became of the leases of the one before."""

    incarnation: int
    session: str
    gang: Record
    requests: tuple[Finished, ...]


_HELLO = logged(
    "UPDATE gang SET state = 'loading', incarnation = incarnation + 1, nonce = :nonce, session_hash = :session,"
    " hello_at = clock_timestamp(), launched_at = coalesce(launched_at, clock_timestamp()), ready_at = NULL,"
    " phases = '{}', breaks = breaks + :broke,"
    " next_check_at = clock_timestamp() + :seconds * interval '1 second', version = version + 1"
    " WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "hello",
    FOLD,
)


def hello(
    tx: Tx, gang_id: str, gang_token: str, *, nonce: str, world: int, rank: Rank, lease: timedelta, replicas: int = 1
) -> Born:
    """Rank 0 says hello: a new incarnation, which ends the one before. The same nonce gets the same answer.

    Good also from a gang that is merely planned: its ranks may be faster than the record of their launch.
    Raises Unauthorized for a wrong token, StaleLease `gang_gone`, Conflict for another world size or other replicas.
    """
    row = _locked_for_token(tx, gang_id, gang_token)
    if row.nonce == nonce:
        return Born(
            incarnation=row.incarnation, session=_session(gang_token, row.incarnation, nonce), gang=row, requests=()
        )
    if world != row.world:
        raise Conflict(f"gang {gang_id} has {row.world} ranks, not {world}", code="wrong_world")
    if replicas != row.replicas:
        said = f"gang {gang_id} has {row.replicas} replicas, its ranks know of {replicas}: is their Muster older?"
        raise Conflict(said, code="wrong_world")
    requests = _end_incarnation(tx, row)
    session = _session(gang_token, row.incarnation + 1, nonce)
    born = tx.execute(
        _HELLO,
        {
            "id": gang_id,
            "nonce": nonce,
            "session": digest(session),
            "broke": int(row.state in (GangState.LOADING, GangState.READY)),
            "seconds": lease.total_seconds(),
            "guard": GANG_MOVES["hello"].guard,
        },
    ).one()
    journal.gang(tx, "hello", born, seconds=journal.between(born.launched_at, born.hello_at))
    _touch(tx, born)
    add_rank(tx, gang_id, born.incarnation, rank)
    gang = tx.execute(_WITH_SPEC, {"id": gang_id}).one()
    return Born(incarnation=born.incarnation, session=session, gang=gang, requests=requests)


_WITH_SPEC = text("SELECT g.*, p.spec FROM gang g JOIN pool p ON p.id = g.pool_id WHERE g.id = :id FOR UPDATE OF g")


def _locked_for_token(tx: Tx, gang_id: str, gang_token: str) -> Record:
    row = _of_token(tx, gang_id, gang_token)
    if row.state in (GangState.GONE, GangState.DRAINING):
        raise StaleLease(f"gang {gang_id} is {row.state}: {row.reason}", code="gang_gone")
    return row


def _of_token(tx: Tx, gang_id: str, gang_token: str) -> Record:
    row = tx.execute(_WITH_SPEC, {"id": gang_id}).one_or_none()
    if row is None or digest(gang_token) not in [bytes(known) for known in row.token_hashes]:
        raise Unauthorized(f"this token does not open gang {gang_id}")
    return row


def recall(tx: Tx, gang_id: str, gang_token: str, node: str) -> bool:
    """A node of the gang is to go: no new work for it. Whether what it does now is worth staying for.

    Raises Unauthorized for a wrong token, StaleLease `gang_gone`.
    """
    row = _of_token(tx, gang_id, gang_token)
    if row.state == GangState.GONE:
        raise StaleLease(f"gang {gang_id} is {row.state}: {row.reason}", code="gang_gone")
    if row.state != GangState.DRAINING:
        drain(tx, gang_id, Reason.DRAINED, f"{node} was told to go")
    return bool(tx.execute(_HOLDS_LEASE, {"id": gang_id}).scalar_one())


_HOLDS_LEASE = text("SELECT EXISTS (SELECT FROM attempt WHERE gang_id = :id AND ended_at IS NULL)")


def _session(gang_token: str, incarnation: int, nonce: str) -> str:
    """The incarnation token: derived, so that a repeated hello gets the same one and only its hash is stored."""
    return hmac.new(gang_token.encode(), f"{incarnation}:{nonce}".encode(), hashlib.sha256).hexdigest()


def _end_incarnation(tx: Tx, row: Record) -> tuple[Finished, ...]:
    if row.incarnation == 0:
        return ()
    cause = rank_errors.root_cause(tx, row.id, row.incarnation)
    why = cause.message if cause else f"incarnation {row.incarnation} ended: its ranks started anew"
    reason = Reason.RANK_FAILED if cause else Reason.SUPERSEDED
    return lose_leases(tx, row.id, reason, why, rank=cause.rank if cause else None, node=cause.node if cause else None)


def _touch(tx: Tx, gang: Record) -> None:
    tx.execute(
        text(
            "INSERT INTO gang_beat (gang_id, incarnation, heard) VALUES (:g, :i,"
            " CASE WHEN :n > 1 THEN array_fill(clock_timestamp(), ARRAY[:n]) END) ON CONFLICT (gang_id) DO UPDATE SET"
            " incarnation = excluded.incarnation, seen_at = clock_timestamp(), ranks = '[]', starting = NULL,"
            " starting_at = NULL, heard = excluded.heard"
        ),
        {"g": gang.id, "i": gang.incarnation, "n": gang.replicas},
    )


def add_rank(tx: Tx, gang_id: str, incarnation: int, rank: Rank) -> None:
    """One rank of the incarnation said hello."""
    tx.execute(
        text(
            "INSERT INTO gang_rank (gang_id, incarnation, rank, node, pid, local_rank, device)"
            " VALUES (:g, :i, :rank, :node, :pid, :local_rank, :device) ON CONFLICT DO NOTHING"
        ),
        {
            "g": gang_id,
            "i": incarnation,
            "rank": rank.rank,
            "node": rank.node,
            "pid": rank.pid,
            "local_rank": rank.local_rank,
            "device": rank.device,
        },
    )


_READY = logged(
    "UPDATE gang g SET state = 'ready', ready_at = clock_timestamp(), breaks = 0,"
    " first_ready_at = coalesce(first_ready_at, clock_timestamp()), version = version + 1"
    " WHERE id = :id AND state = ANY(:guard) AND world <= (SELECT count(*) FROM gang_rank k"
    " WHERE k.gang_id = g.id AND k.incarnation = g.incarnation AND k.ready_at IS NOT NULL) RETURNING *",
    "ready",
    FOLD,
    outbox.GANG_READY,
)


def rank_ready(
    tx: Tx, gang_id: str, incarnation: int, rank: int, seconds: Mapping[str, float], link: Mapping[str, float] = {}
) -> Record | None:
    """One rank finished its start. Returns the gang when it was the last one: only then may work reach it (I10).

    `link` is what the preflight measured.
    """
    tx.execute(text("SELECT 1 FROM gang WHERE id = :g FOR UPDATE"), {"g": gang_id})
    tx.execute(
        text(
            "UPDATE gang_rank SET ready_at = coalesce(ready_at, clock_timestamp())"
            " WHERE gang_id = :g AND incarnation = :i AND rank = :r"
        ),
        {"g": gang_id, "i": incarnation, "r": rank},
    )
    if rank == 0:
        tx.execute(
            text("UPDATE gang SET phases = CAST(:s AS jsonb) WHERE id = :g"),
            {"g": gang_id, "s": json.dumps({**seconds, **({"link": dict(link)} if link else {})})},
        )
    ready = tx.execute(_READY, {"id": gang_id, "guard": GANG_MOVES["ready"].guard}).one_or_none()
    if ready is not None:
        since = journal.between(_begun(ready), ready.ready_at)
        journal.gang(tx, "ready", ready, seconds=since, phases=_phases(tx, ready))
        tx.execute(
            text(
                "UPDATE pool SET failed_starts = 0, held_until = NULL, held_reason = NULL WHERE id = :p"
                " AND failed_starts > 0"
            ),
            {"p": ready.pool_id},
        )
    return ready


def _begun(gang: Record) -> datetime | None:
    """When this start began: with the launch, or, of ranks that came back by themselves, with their hello."""
    begun: datetime | None = gang.launched_at if gang.ready_at == gang.first_ready_at else gang.hello_at
    return begun


def _phases(tx: Tx, gang: Record) -> dict[str, float]:
    """Of a first life also how its nodes came; `launch` is all until the hello, and contains them."""
    said = {name: seconds for name, seconds in gang.phases.items() if name != "link"}
    launch = journal.between(gang.launched_at, gang.hello_at)
    if launch is None or gang.ready_at != gang.first_ready_at:
        return said
    came = arrivals.of_gangs(tx, [gang.id]).get((gang.id, gang.incarnation))
    return {"launch": launch, **arrival.to_first_line(gang.launched_at, came, gang.hello_at, said), **said}


_BREAK = logged(
    "UPDATE gang SET state = 'launching', breaks = breaks + 1, session_hash = NULL, ready_at = NULL,"
    " next_check_at = clock_timestamp() + :seconds * interval '1 second', version = version + 1"
    " WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "break",
    FOLD,
)


def break_incarnation(
    tx: Tx,
    gang_id: str,
    reason: Reason,
    why: str,
    start_timeout: timedelta,
    *,
    rank: int | None,
    node: str | None,
    slot: int | None = None,
) -> Ended | None:
    """The incarnation said that it ends. A serve gang may come back by itself, but not for ever; all else is ended.

    `slot`: the replica at fault, where no rank says it.
    """
    row = tx.execute(text("SELECT * FROM gang WHERE id = :id FOR UPDATE"), {"id": gang_id}).one()
    if row.mode == "batch" or row.state == GangState.DRAINING or row.breaks + 1 >= MAX_BREAKS:
        return end(tx, gang_id, reason, why, rank=rank, node=node, slot=slot)
    lost = lose_leases(tx, gang_id, reason, why, rank=rank, node=node, slot=slot)
    values = {"id": gang_id, "seconds": start_timeout.total_seconds(), "guard": GANG_MOVES["break"].guard}
    if broken := tx.execute(_BREAK, values).one_or_none():
        journal.gang(tx, "break", broken)
    return Ended(gang=gang_id, requests=lost)


def join(tx: Tx, gang_id: str, session_hash: bytes, rank: Rank) -> int:
    """A rank other than 0 joins the incarnation whose token it bears; returns its number.

    Raises StaleLease, Conflict for a rank that the gang does not have.
    """
    who = members.member(tx, gang_id, session_hash)
    if rank.rank >= who.world:
        raise Conflict(f"gang {gang_id} has {who.world} ranks; there is no rank {rank.rank}", code="wrong_world")
    add_rank(tx, gang_id, who.incarnation, rank)
    return who.incarnation
