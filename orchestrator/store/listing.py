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

_ID_LENGTH = len("req_") + 26


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
    id_begins: str | None = None
    id_ends: str | None = None
    """Beside `id_begins`: by itself it would go through all."""
    """The ID begins like this."""
    labeled: str | None = None
    """Some label, whatever its key, has this value."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a page ended: the last request on it, or the first for whoever goes back."""

    created_at: str
    """ISO 8601."""
    id: str


def page(tx: Tx, tenant: str, wanted: Filter, *, before: Place | None, limit: int) -> Sequence[Record]:
    """At most `limit` requests, as `requests.get` reads them."""
    return _page(tx, VIEW, tenant, wanted, before, limit, newer=False)


def brief(
    tx: Tx, tenant: str, wanted: Filter, *, place: Place | None, limit: int, newer: bool = False
) -> Sequence[Record]:
    """The same with what a line about each needs: `limit` requests before `place`, or after it if `newer`."""
    return _page(tx, _BRIEF, tenant, wanted, place, limit, newer=newer)


_LARGEST_SHOWN = 16 << 10
_BRIEF = f"""
SELECT r.id, r.state, r.reason_code, r.reason, r.template, r.template_version, r.mode, r.placement, r.attempts,
       r.batch_id, r.custom_id, r.retry_of, r.created_at, r.assigned_at, r.started_at, r.finished_at,
       CASE WHEN pg_column_size(p.input) <= {_LARGEST_SHOWN} THEN p.input END AS input, p.labels,
       g.phase, g.current, g.total, g.updated_at AS progress_at,
       extract(epoch FROM clock_timestamp() - r.started_at) AS running_s
FROM request r
JOIN payload p ON p.request_id = r.id
LEFT JOIN progress g ON g.request_id = r.id
"""


def _page(
    tx: Tx, view: str, tenant: str, wanted: Filter, place: Place | None, limit: int, *, newer: bool
) -> Sequence[Record]:
    way = "ASC" if newer else "DESC"
    at, key = _order(wanted)
    conditions = [*_conditions(wanted, place, newer)]
    if wanted.labeled is not None:
        conditions.append(_labeled(tx, tenant, wanted.labeled))
    chosen = " AND ".join(conditions)
    query = (
        f"{view} WHERE r.id = ANY(ARRAY(SELECT r.id FROM {_source(wanted)} WHERE {chosen}"
        f" ORDER BY {at} {way}, {key} {way}"
        " LIMIT :limit))"  # an array: as a join, it would come after the view has joined all requests
        " ORDER BY r.created_at DESC, r.id DESC"
    )
    return tx.execute(text(query), {**_values(tenant, wanted, place), "limit": limit}).all()


def _order(wanted: Filter) -> tuple[str, str]:
    return ("l0.created_at", "l0.request_id") if wanted.labels else ("r.created_at", "r.id")


def _source(wanted: Filter) -> str:
    if not wanted.labels:
        return "request r"
    joined = (f"JOIN request_label l{n} ON l{n}.request_id = l0.request_id" for n in range(1, len(wanted.labels)))
    return " ".join(["request_label l0", *joined, "JOIN request r ON r.id = l0.request_id"])


def _conditions(wanted: Filter, place: Place | None, newer: bool) -> Iterator[str]:
    """Written so that a partial index can be seen to hold all that is asked for; see the migration."""
    at, key = _order(wanted)
    yield "l0.tenant = :tenant" if wanted.labels else "r.tenant = :tenant"
    for number in range(len(wanted.labels)):
        yield f"l{number}.tenant = :tenant AND l{number}.key = :key{number} AND l{number}.value = :value{number}"
    if wanted.states:
        yield "r.state = ANY(:states)" if len(wanted.states) > 1 else "r.state = :state"  # which keeps an index's order
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
    if wanted.id_begins is not None:
        yield "r.id BETWEEN :id_least AND :id_most"
        if wanted.id_ends is not None:
            yield "right(r.id, :id_end_length) = :id_ends"
    if place is not None:
        yield f"({at}, {key}) {'>' if newer else '<'} (CAST(:place_at AS timestamptz), :place)"


_MOST_KEYS = 100
_FEW = 2000
_LABELED = f"""
WITH RECURSIVE word (key, nth) AS (
  SELECT min(key), 1 FROM request_label WHERE tenant = :tenant
  UNION ALL
  SELECT (SELECT min(l.key) FROM request_label l WHERE l.tenant = :tenant AND l.key > w.key), w.nth + 1
  FROM word w WHERE w.key IS NOT NULL AND w.nth < {_MOST_KEYS}
)
SELECT l.request_id FROM word w JOIN request_label l ON l.tenant = :tenant AND l.key = w.key AND l.value = :labeled
"""
"""The index of labels begins with the key: from key to key, each a look of its own."""
_HOW_MANY = text(f"SELECT count(*) FROM ({_LABELED} LIMIT {_FEW}) few")


def _labeled(tx: Tx, tenant: str, value: str) -> str:
    """That some label has the value: few such requests are found by it, of many the newest by going through all."""
    found = int(tx.execute(_HOW_MANY, {"tenant": tenant, "labeled": value}).scalar_one())
    if found < _FEW:
        return f"r.id IN ({_LABELED})"
    return "EXISTS (SELECT FROM request_label v WHERE v.request_id = r.id AND v.value = :labeled)"


def _values(tenant: str, wanted: Filter, place: Place | None) -> dict[str, Any]:
    labels = list(wanted.labels.items())
    return {
        "tenant": tenant,
        "states": list(wanted.states),
        "state": next(iter(wanted.states), None),
        "template": wanted.template,
        "pool": wanted.pool,
        "mode": wanted.mode,
        "created_after": wanted.created_after,
        "created_before": wanted.created_before,
        "id_least": (wanted.id_begins or "").ljust(_ID_LENGTH, "0"),
        "id_most": (wanted.id_begins or "").ljust(_ID_LENGTH, "z"),
        "id_ends": wanted.id_ends,
        "id_end_length": len(wanted.id_ends or ""),
        "labeled": wanted.labeled,
        "place_at": place.created_at if place else None,
        "place": place.id if place else None,
        **{f"key{number}": key for number, (key, _) in enumerate(labels)},
        **{f"value{number}": value for number, (_, value) in enumerate(labels)},
    }
