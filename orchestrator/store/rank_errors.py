"""What went wrong on the ranks of an incarnation, in their own words, and which of them complained first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from orchestrator.store.database import Record, Tx


@dataclass(frozen=True, kw_only=True)
class RankError:
    """What went wrong on one rank, in its own words."""

    rank: int
    node: str
    attempt: str | None
    phase: str | None
    step: int | None
    type: str
    message: str
    traceback: str | None
    code: str | None = None
    stacks: Sequence[Mapping[str, Any]] = ()


def record(tx: Tx, gang_id: str, incarnation: int, error: RankError) -> None:
    tx.execute(
        text(
            "INSERT INTO rank_error"
            " (gang_id, incarnation, attempt_id, rank, node, phase, step, type, message, traceback, code, stacks)"
            " VALUES (:gang, :incarnation, :attempt, :rank, :node, :phase, :step, :type, :message, :traceback, :code,"
            " CAST(:stacks AS jsonb))"
        ),
        {
            "gang": gang_id,
            "incarnation": incarnation,
            "attempt": error.attempt,
            "rank": error.rank,
            "node": error.node,
            "phase": error.phase,
            "step": error.step,
            "type": error.type,
            "message": error.message,
            "traceback": error.traceback,
            "code": error.code,
            "stacks": json.dumps(list(error.stacks)) if error.stacks else None,
        },
    )


def record_last_words(tx: Tx, gang_id: str, rank: int, node: str, why: str, words: str) -> None:
    """What a rank wrote that died before it said hello; by whoever saw it end."""
    gang = tx.execute(text("SELECT incarnation FROM gang WHERE id = :g"), {"g": gang_id}).one()
    error = RankError(
        rank=rank, node=node, attempt=None, phase="start", step=None, type="Exit", message=why, traceback=words or None
    )
    record(tx, gang_id, gang.incarnation, error)


def root_cause(tx: Tx, gang_id: str, incarnation: int) -> Record | None:
    """The first rank of the incarnation that complained, errors of attempts that are over left aside."""
    return tx.execute(
        text(
            "SELECT * FROM rank_error e WHERE gang_id = :g AND incarnation = :i AND NOT EXISTS"
            " (SELECT 1 FROM attempt a WHERE a.id = e.attempt_id AND a.ended_at IS NOT NULL) ORDER BY id LIMIT 1"
        ),
        {"g": gang_id, "i": incarnation},
    ).one_or_none()
