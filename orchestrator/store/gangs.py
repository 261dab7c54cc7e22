"""Gangs as intents: planned, launched, drained, ended, looked at. What their ranks say is in incarnations.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from orchestrator.domain.addresses import Addresses
from orchestrator.domain.ids import gang_name, new_id
from orchestrator.domain.pool_plan import hold_after
from orchestrator.domain.states import GANG_MOVES, GangState, Reason
from orchestrator.store import attempts, journal, outbox
from orchestrator.store.attempts import Finished
from orchestrator.store.database import Record, Tx, logged
from orchestrator.store.tokens import digest

FOLD = (
    "jsonb_build_object('state', state, 'reason_code', reason_code, 'reason', reason,"
    " 'incarnation', incarnation, 'launches', launches)"
)

IN_ORDER = frozenset({Reason.DRAINED, Reason.STOPPED, Reason.IDLE, Reason.REPLACED, Reason.RECYCLED})
"""Why gangs end when nothing went wrong."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What ending an incarnation did to the requests it held."""

    gang: str
    requests: tuple[Finished, ...]


_PLAN = text(f"""
WITH new AS (
  INSERT INTO gang (id, name, tenant, pool_id, template, version_of, mode, request_id, batch_id, backend, state,
                    world, nodes, replicas, next_check_at)
  SELECT :id, :name, p.tenant, p.id, p.template, p.version, :mode, :request, :batch, :backend, 'planned',
         (p.spec ->> 'nodes')::int * (p.spec ->> 'ranks_per_node')::int, (p.spec ->> 'nodes')::int,
         coalesce((p.spec ->> 'replicas')::int, 1), clock_timestamp()
  FROM pool p WHERE p.id = :pool
  RETURNING *
), logged AS (
  INSERT INTO event (subject, seq, move, data) SELECT id, version, 'plan', {FOLD} FROM new
)
SELECT * FROM new
""")


def plan(tx: Tx, pool: Record, *, backend: str, request_id: str | None = None, batch_id: str | None = None) -> str:
    """The intent to have one more gang: `serve`, or `batch` for one request or one batch. Nothing is launched here."""
    mode = "batch" if request_id or batch_id else "serve"
    gang_id = new_id("gng")
    values = {
        "id": gang_id,
        "name": gang_name(pool.template, mode),
        "mode": mode,
        "request": request_id,
        "batch": batch_id,
        "backend": backend,
        "pool": pool.id,
    }
    journal.gang(tx, "plan", tx.execute(_PLAN, values).one())
    return gang_id


def to_launch(tx: Tx, where: Addresses, retry_after: timedelta, limit: int = 8) -> Sequence[Record]:
    """Planned gangs that nobody is launching, claimed for `retry_after`; and those that a place left.

    Who was left gets the place of its tenant, unless a place of earlier settings may hold something of it.
    """
    return tx.execute(
        text(
            "UPDATE gang g SET next_check_at = clock_timestamp() + :claim * interval '1 second', backend ="
            " CASE WHEN g.backend = ANY(:here) THEN g.backend ELSE coalesce((SELECT o.place FROM"
            "   unnest(CAST(:tenants AS text[]), CAST(:places AS text[])) AS o (tenant, place)"
            "   WHERE o.tenant = g.tenant), :home) END"
            " FROM pool p WHERE p.id = g.pool_id AND g.id IN (SELECT id FROM gang WHERE state = 'planned'"
            " AND (backend = ANY(:here) AND next_check_at <= clock_timestamp()"
            "   OR next_check_at <= clock_timestamp() - 2 * :claim * interval '1 second'"
            "      AND NOT (present AND backend = ANY(:former)))"
            " ORDER BY planned_at LIMIT :n FOR UPDATE SKIP LOCKED)"
            " RETURNING g.*, p.spec, extract(epoch FROM clock_timestamp() - g.planned_at) AS planned_s"
        ),
        {
            "here": [*where.current],
            "home": where.home,
            "tenants": [*where.own],
            "places": [*where.own.values()],
            "former": [*where.former],
            "claim": retry_after.total_seconds(),
            "n": limit,
        },
    ).all()


def add_token(tx: Tx, gang_id: str, token: str) -> None:
    """Let the gang token in. Earlier ones stay good: a launch whose answer was lost may have used one."""
    tx.execute(
        text("UPDATE gang SET token_hashes = token_hashes || :hash, present = true WHERE id = :id"),
        {"id": gang_id, "hash": [digest(token)]},
    )


_LAUNCHED = logged(
    "UPDATE gang SET state = 'launching', launches = launches + 1, launched_at = coalesce(launched_at,"
    " clock_timestamp()), next_check_at = clock_timestamp() + :seconds * interval '1 second', version = version + 1"
    " WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "launch",
    FOLD,
)


def launched(tx: Tx, gang_id: str, start_timeout: timedelta) -> bool:
    """The backend took the gang; it must be ready within `start_timeout`."""
    values = {"id": gang_id, "seconds": start_timeout.total_seconds(), "guard": GANG_MOVES["launch"].guard}
    row = tx.execute(_LAUNCHED, values).one_or_none()
    if row is not None:
        journal.gang(tx, "launch", row, seconds=journal.between(row.planned_at, row.launched_at))
    return row is not None


_DRAIN = logged(
    "UPDATE gang SET state = 'draining', reason_code = :code, reason = :reason,"
    " next_check_at = clock_timestamp(), version = version + 1 WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "drain",
    FOLD,
)


def drain(tx: Tx, gang_id: str, reason: Reason, why: str) -> bool:
    """No new work for this gang; it ends when its lease does."""
    values = {"id": gang_id, "code": reason, "reason": why, "guard": GANG_MOVES["drain"].guard}
    row = tx.execute(_DRAIN, values).one_or_none()
    if row is not None:
        journal.gang(tx, "drain", row)
    return row is not None


_END = logged(
    "UPDATE gang SET state = 'gone', reason_code = :code, reason = :reason, gone_at = clock_timestamp(),"
    " session_hash = NULL, next_check_at = NULL, version = version + 1"
    " WHERE id = :id AND state = ANY(:guard) RETURNING *",
    "end",
    FOLD,
    outbox.GANG_ENDED,
)


def end(
    tx: Tx,
    gang_id: str,
    reason: Reason,
    why: str,
    *,
    rank: int | None = None,
    node: str | None = None,
    slot: int | None = None,
) -> Ended | None:
    """The gang is not wanted any more: its leases end, its token is worthless. None if it was gone already.

    `slot`: the replica at fault, where no rank says it.
    """
    row = tx.execute(text("SELECT * FROM gang WHERE id = :id FOR UPDATE"), {"id": gang_id}).one_or_none()
    if row is None or row.state == GangState.GONE:
        return None
    if reason is Reason.DRAINED and row.state == GangState.DRAINING and row.reason_code:
        reason, why = Reason(row.reason_code), row.reason  # why it was drained says more than that it was
    lost = lose_leases(tx, gang_id, reason, why, rank=rank, node=node, slot=slot)
    gone = tx.execute(_END, {"id": gang_id, "code": reason, "reason": why, "guard": GANG_MOVES["end"].guard}).one()
    journal.gang(tx, "end", gone, seconds=journal.between(gone.launched_at, gone.gone_at))
    if row.first_ready_at is None and reason not in (Reason.STOPPED, Reason.DRAINED, Reason.IDLE, Reason.REPLACED):
        _count_failed_start(tx, row.pool_id, why)
    return Ended(gang=gang_id, requests=lost)


def _count_failed_start(tx: Tx, pool_id: str, why: str) -> None:
    failed = tx.execute(
        text("UPDATE pool SET failed_starts = failed_starts + 1 WHERE id = :p RETURNING failed_starts"), {"p": pool_id}
    ).scalar_one()
    tx.execute(
        text(
            "UPDATE pool SET held_until = clock_timestamp() + :s * interval '1 second', held_reason = :why"
            " WHERE id = :p"
        ),
        {"p": pool_id, "s": hold_after(failed).total_seconds(), "why": why},
    )


def lose_leases(
    tx: Tx,
    gang_id: str,
    reason: Reason,
    why: str,
    *,
    rank: int | None = None,
    node: str | None = None,
    slot: int | None = None,
) -> tuple[Finished, ...]:
    """End every live lease of the gang. Of several, those of other replicas than the one at fault are merely lost."""
    crash = reason not in IN_ORDER
    lost = []
    for row in attempts.live_on(tx, gang_id):
        at_fault = slot if rank is None else rank // row.ranks
        if row.replicas == 1 or at_fault is None or at_fault == row.slot or not crash:
            crashed = crash and row.begun_at is not None
            lost.append(attempts.lose(tx, row, reason, why, crashed=crashed, rank=rank, node=node))
        else:
            said = f"replica {at_fault} of its gang took the others with it: {why}"
            lost.append(attempts.lose(tx, row, Reason.GANG_LOST, said, crashed=False, rank=rank, node=node))
    return tuple(lost)


def overdue(tx: Tx, limit: int = 50) -> Sequence[Record]:
    """Live gangs (not merely planned) whose clock rang, locked, with the age of their last beat in seconds."""
    return tx.execute(
        text(
            "SELECT g.*, p.spec, extract(epoch FROM clock_timestamp() - b.seen_at) AS silent_s,"
            " extract(epoch FROM clock_timestamp() - coalesce(g.hello_at, g.launched_at)) AS starting_s,"
            " (SELECT count(*) FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL) AS leases,"
            " CASE WHEN g.state = 'draining' THEN extract(epoch FROM clock_timestamp() - greatest("
            "   (SELECT max(e.at) FROM event e WHERE e.subject = g.id AND e.move = 'drain'),"
            "   (SELECT max(a.ended_at) FROM attempt a WHERE a.gang_id = g.id))) END AS draining_s,"
            " (SELECT slot - 1 FROM unnest(b.heard) WITH ORDINALITY h (at, slot) ORDER BY at LIMIT 1) AS silent_slot"
            " FROM gang g JOIN pool p ON p.id = g.pool_id"
            " LEFT JOIN gang_beat b ON b.gang_id = g.id AND b.incarnation = g.incarnation"
            " WHERE g.state NOT IN ('gone', 'planned') AND g.next_check_at <= clock_timestamp()"
            " ORDER BY g.next_check_at LIMIT :n FOR UPDATE OF g SKIP LOCKED"
        ),
        {"n": limit},
    ).all()


def never_launched(tx: Tx, patience: timedelta, limit: int = 50) -> Sequence[Record]:
    """Gangs that are merely planned, for longer than a start may take and `patience`; locked."""
    return tx.execute(
        text(
            "SELECT g.id, extract(epoch FROM clock_timestamp() - g.planned_at) AS planned_s"
            " FROM gang g JOIN pool p ON p.id = g.pool_id WHERE g.state = 'planned' AND g.planned_at <"
            " clock_timestamp() - ((p.spec #>> '{limits,start_timeout_s}')::float8 + :s) * interval '1 second'"
            " LIMIT :n FOR UPDATE OF g SKIP LOCKED"
        ),
        {"s": patience.total_seconds(), "n": limit},
    ).all()


def wind(tx: Tx, gang_id: str, after: timedelta) -> None:
    """Nothing is due: look again after this long."""
    tx.execute(
        text(
            "UPDATE gang SET next_check_at = clock_timestamp() + :s * interval '1 second' WHERE id = :id"
            " AND state <> 'gone'"
        ),
        {"id": gang_id, "s": after.total_seconds()},
    )


def unwanted(tx: Tx, places: Sequence[str]) -> Sequence[Record]:
    """Gone gangs of which these places may still hold something."""
    return tx.execute(
        text(
            "SELECT id, name, backend, reason_code, reason, incarnation,"
            " extract(epoch FROM clock_timestamp() - gone_at) AS gone_s"
            " FROM gang WHERE state = 'gone' AND present AND backend = ANY(:places)"
        ),
        {"places": [*places]},
    ).all()


def absent(tx: Tx, gang_id: str) -> None:
    """The backend holds nothing of the gang any more."""
    tx.execute(text("UPDATE gang SET present = false WHERE id = :id AND state = 'gone'"), {"id": gang_id})


def note_words(tx: Tx, words: Mapping[str, tuple[str | None, str | None]]) -> None:
    """What the backend says of gangs that start: a word for programs and a sentence. Writes only what is new."""
    if not words:
        return
    tx.execute(
        text(
            "UPDATE gang g SET seen_reason = w.reason, seen_detail = w.detail"
            " FROM unnest(CAST(:ids AS text[]), CAST(:reasons AS text[]), CAST(:details AS text[]))"
            " AS w (id, reason, detail) WHERE g.id = w.id AND g.state IN ('launching', 'loading')"
            " AND (g.seen_reason, g.seen_detail) IS DISTINCT FROM (w.reason, w.detail)"
        ),
        {
            "ids": [*words],
            "reasons": [reason for reason, _ in words.values()],
            "details": [detail for _, detail in words.values()],
        },
    )


def living(tx: Tx) -> Sequence[str]:
    """Every gang that is not gone."""
    return tx.execute(text("SELECT id FROM gang WHERE state <> 'gone' ORDER BY id")).scalars().all()
