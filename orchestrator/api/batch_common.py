"""What the routes of a batch and of its items share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from orchestrator.api.office import Office
from orchestrator.domain.states import BatchState, RequestState
from orchestrator.errors import Conflict, Invalid
from orchestrator.store import batches
from orchestrator.store.database import Record, Tx

BatchId = Annotated[str, Path(pattern=r"^bat_[0-9a-z]{26}$", description="batch ID")]


def states_of(status: str | None, words: type[BatchState] | type[RequestState]) -> list[str]:
    asked = {"canceled" if part == "cancelled" else part for part in (status or "").split(",") if part}
    if unknown := sorted(asked - {str(word) for word in words}):
        raise Invalid(f"no status {unknown[0][:40]!r}; there are {', '.join(words)}", pointer="/status")
    return sorted(asked)


def open_again(tx: Tx, row: Record) -> None:
    """Let items of the batch start, if it is over. Raises Conflict while it is about to be."""
    if row.state == BatchState.FINALIZING:
        raise Conflict(f"batch {row.id} is ending: try again when it is over", code="batch_over")
    if row.finished_at is not None:
        batches.reopen(tx, row.id, int(row.failed))


def look(here: Office) -> None:
    """Something changed that the loops should know of."""
    for bell in ("batches", "plan", "schedule"):
        here.ring(bell)
