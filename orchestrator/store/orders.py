"""What is asked for when requests are accepted, and what becomes of it. Knows no statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.placement import Mode, Placed, PoolLoad
from orchestrator.store.database import Record
from orchestrator.store.scheduling import Lease


@dataclass(frozen=True, kw_only=True)
class NewRequest:
    """A request that passed all checks."""

    id: str
    tenant: str
    template: str
    template_version: int
    pool_id: str
    mode: Mode
    priority: int
    input: Mapping[str, Any]
    labels: Mapping[str, str]
    timeout_s: float
    start_within_s: float | None
    max_attempts: int
    max_crashes: int
    idempotency_key: str | None
    body_digest: bytes
    output_ttl_s: float | None = None
    """How long its outputs are kept, from its end; None keeps them for good."""
    retry_of: str | None = None
    files: Mapping[str, Any] = field(default_factory=dict)
    """The files that the input names, by input: where they lie, their name, bytes and sha256."""
    traceparent: str | None = None
    """What its caller said of its trace; of this and `tracestate` nothing is written where nothing was said."""
    tracestate: str | None = None
    placed: Placed | None = None
    """Its path, once that is decided."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A request that is to be accepted into this pool (a row of `pool`)."""

    new: NewRequest
    pool: Record


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What became of an order. `row`: the request as it is shown; None if another one holds its key or its ID."""

    row: Record | None
    lease: Lease | None = None
    """The lease that it got at once."""
    load: PoolLoad | None = None
    """The pool as it was before this request joined those who wait."""


def asked_of(new: Sequence[NewRequest]) -> list[dict[str, Any]]:
    """Rows for a statement that records them, in their order."""
    return [_columns(number, each) for number, each in enumerate(new, start=1)]


def _columns(number: int, new: NewRequest) -> dict[str, Any]:
    """A row of `asked`: the fields of the request under their names, and what is decided here."""
    if new.placed is None:
        raise ValueError(f"{new.id} has no path yet")
    fields = {name: value for name, value in vars(new).items() if name != "placed" and value is not None}
    return {
        **fields,
        "number": number,
        "placement": new.placed.placement,
        "placement_reason": new.placed.reason,
        "body_digest": new.body_digest.hex(),
        "files": new.files or None,
    }
