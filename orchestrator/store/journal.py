"""Moves of a transaction, noted where they are made and told after its commit: the log and the metrics hear of nothing
that did not happen. A transaction that runs again begins with none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from orchestrator.domain.moved import Moved

Told = Callable[[Sequence[Moved]], None]
_KEY = "moved"


def forget(tx: Connection) -> None:
    """A transaction begins: what was noted on this connection belonged to one that was rolled back."""
    tx.info.pop(_KEY, None)


def noted(tx: Connection) -> Sequence[Moved]:
    """What this transaction did."""
    moved: Sequence[Moved] = tx.info.pop(_KEY, ())
    return moved


def note(tx: Connection, moved: Moved) -> None:
    tx.info.setdefault(_KEY, []).append(moved)


def request(tx: Connection, move: str, row: Row[Any], **more: Any) -> None:
    """A row of `request` after its move; `more` of what the row does not say, or says otherwise."""
    said = {"state": row.state, "gang": row.gang_id, "reason": row.reason_code, "placement": row.placement} | more
    note(tx, Moved(move=move, tenant=row.tenant, template=row.template, request=row.id, **said))


def batch(tx: Connection, move: str, row: Row[Any]) -> None:
    """A row of `batch` after its move."""
    note(
        tx,
        Moved(
            move=move, state=row.state, tenant=row.tenant, template=row.template, batch=row.id, reason=row.reason_code
        ),
    )


def items(tx: Connection, move: str, state: str, batch: Row[Any], count: int, reason: str | None = None) -> None:
    """So many items of a batch made the move in one statement: told as one."""
    if count:
        note(
            tx,
            Moved(
                move=move,
                state=state,
                tenant=batch.tenant,
                template=batch.template,
                batch=batch.id,
                items=count,
                placement="batch",
                reason=reason,
            ),
        )


def gang(tx: Connection, move: str, row: Row[Any], **more: Any) -> None:
    """A row of `gang` after its move."""
    note(
        tx,
        Moved(
            move=move,
            state=row.state,
            tenant=row.tenant,
            template=row.template,
            gang=row.id,
            incarnation=row.incarnation,
            reason=row.reason_code,
            mode=row.mode,
            **more,
        ),
    )


def between(begin: datetime | None, end: datetime | None) -> float | None:
    """Seconds, by the database's clock."""
    return (end - begin).total_seconds() if begin is not None and end is not None else None


def queued(row: Row[Any]) -> float | None:
    """How long an assigned request had waited: since it was accepted, or since it was due again."""
    return between(row.created_at if row.attempts == 1 else row.run_at, row.assigned_at)


def cold(row: Row[Any]) -> float:
    """How much of a request's wait was the start of its gang, in seconds."""
    if not (row.first_ready_at and row.launched_at and row.granted_at and row.first_ready_at > row.created_at):
        return 0.0
    return between(max(row.launched_at, row.created_at), row.first_ready_at) or 0.0
