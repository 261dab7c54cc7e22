"""Pages of a tenant's requests, newest first. Every filter has an index, and only those asked for are in the query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text

from orchestrator.domain.states import TERMINAL
from orchestrator.store.database import Record, Tx
from orchestrator.store.requests import VIEW


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which requests; what is not given does not matter. Moments have a zone and are not included themselves."""

    states: tuple[str, ...] = ()
    template: str | None = None
    pool: str | None = None
    """A pool has the name of its template."""
    mode: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a page ended: the last request on it."""

    created_at: str
    """ISO 8601."""
    id: str


def page(tx: Tx, tenant: str, wanted: Filter, *, before: Place | None, limit: int) -> Sequence[Record]:
    """At most `limit` requests, as `requests.get` reads them."""
    order = "l0.created_at DESC, l0.request_id DESC" if wanted.labels else "r.created_at DESC, r.id DESC"
    chosen = " AND ".join(_conditions(wanted, before))
    query = (
        f"{VIEW} WHERE r.id = ANY(ARRAY(SELECT r.id FROM {_source(wanted)} WHERE {chosen} ORDER BY {order}"
        " LIMIT :limit))"  # an array: as a join, it would come after the view has joined all requests
        " ORDER BY r.created_at DESC, r.id DESC"
    )
    return tx.execute(text(query), {**_values(tenant, wanted, before), "limit": limit}).all()


def _source(wanted: Filter) -> str:
    if not wanted.labels:
        return "request r"
    joined = (f"JOIN request_label l{n} ON l{n}.request_id = l0.request_id" for n in range(1, len(wanted.labels)))
    return " ".join(["request_label l0", *joined, "JOIN request r ON r.id = l0.request_id"])


def _conditions(wanted: Filter, before: Place | None) -> Iterator[str]:
    """Written so that a partial index can be seen to hold all that is asked for; see the migration."""
    at, key = ("l0.created_at", "l0.request_id") if wanted.labels else ("r.created_at", "r.id")
    yield "l0.tenant = :tenant" if wanted.labels else "r.tenant = :tenant"
    for number in range(len(wanted.labels)):
        yield f"l{number}.tenant = :tenant AND l{number}.key = :key{number} AND l{number}.value = :value{number}"
    if wanted.states:
        yield "r.state = ANY(:states)"
        if not TERMINAL & set(wanted.states):
            yield "r.next_check_at IS NOT NULL"
    if wanted.template is not None:
        yield "r.template = :template"
    if wanted.pool is not None:
        yield "r.template = :pool"
    if wanted.mode is not None:
        yield "r.mode = :mode"
        if wanted.mode != "auto":
            yield "r.mode <> 'auto'"
    if wanted.created_after is not None:
        yield f"{at} > :created_after"
    if wanted.created_before is not None:
        yield f"{at} < :created_before"
    if before is not None:
        yield f"({at}, {key}) < (CAST(:before_at AS timestamptz), :before)"


def _values(tenant: str, wanted: Filter, before: Place | None) -> dict[str, Any]:
    labels = list(wanted.labels.items())
    return {
        "tenant": tenant,
        "states": list(wanted.states),
        "template": wanted.template,
        "pool": wanted.pool,
        "mode": wanted.mode,
        "created_after": wanted.created_after,
        "created_before": wanted.created_before,
        "before_at": before.created_at if before else None,
        "before": before.id if before else None,
        **{f"key{number}": key for number, (key, _) in enumerate(labels)},
        **{f"value{number}": value for number, (_, value) in enumerate(labels)},
    }
