"""Templates and their pools. A version never changes; the same content again is the same version."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text

from orchestrator.domain.ids import new_id
from orchestrator.domain.template import Template
from orchestrator.errors import Conflict, Invalid, NotFound
from orchestrator.store.database import Record, Tx

_POOL = "SELECT * FROM pool WHERE tenant = :tenant AND template = :name AND current"


def apply(tx: Tx, tenant: str, template: Template) -> Record:
    """Register the template and its pool; returns the pool of the current version."""
    tx.execute(text("SELECT pg_advisory_xact_lock(hashtext(:key))"), {"key": f"template:{tenant}:{template.name}"})
    newest = _newest(tx, tenant, template.name)
    if newest is not None and bytes(newest.digest) == template.digest:
        return current_pool(tx, tenant, template.name)
    return _add_version(tx, tenant, template, (_top(tx, tenant, template.name)) + 1)


def current_pool(tx: Tx, tenant: str, name: str) -> Record:
    """The pool of the template's current version. Raises NotFound."""
    row = tx.execute(text(_POOL), {"tenant": tenant, "name": name}).one_or_none()
    if row is None:
        raise NotFound(f"no template {name!r}; `muster template ls` shows what there is", code="unknown_template")
    return row


def list_current(tx: Tx, tenant: str) -> Sequence[Record]:
    return tx.execute(text("SELECT * FROM pool WHERE tenant = :t AND current ORDER BY template"), {"t": tenant}).all()


def spec_of(pool: Record) -> dict[str, Any]:
    """What the template says, in the order of its author where that is known."""
    spec: dict[str, Any] = pool.written or pool.spec
    return spec


_LAST_USED = text("""
SELECT p.template, (SELECT r.created_at FROM request r WHERE r.tenant = :t AND r.template = p.template
                    ORDER BY r.created_at DESC, r.id DESC LIMIT 1) AS last_used_at
FROM pool p WHERE p.tenant = :t AND p.current
""")


def last_used(tx: Tx, tenant: str) -> dict[str, datetime | None]:
    """When each current template was last asked for, by its name."""
    return {row.template: row.last_used_at for row in tx.execute(_LAST_USED, {"t": tenant})}


def versions(tx: Tx, tenant: str, name: str, limit: int) -> Sequence[Record]:
    """Newest first: `version`, `created_at`, `spec`."""
    query = text(
        "SELECT version, created_at, spec FROM template WHERE tenant = :t AND name = :n ORDER BY version DESC LIMIT :l"
    )
    return tx.execute(query, {"t": tenant, "n": name, "l": limit}).all()


def delete(tx: Tx, tenant: str, name: str) -> None:
    """Take the template out of service. Requests that wait keep their version; its gangs drain."""
    pool = current_pool(tx, tenant, name)
    open_requests = tx.execute(
        text("SELECT count(*) FROM (SELECT 1 FROM request WHERE pool_id = :p AND next_check_at IS NOT NULL LIMIT 1) r"),
        {"p": pool.id},
    ).scalar_one()
    if open_requests:
        raise Conflict(f"template {name!r} has open requests; cancel them or let them finish", code="template_in_use")
    tx.execute(text("UPDATE pool SET current = false, min_gangs = 0 WHERE id = :p"), {"p": pool.id})
    tx.execute(
        text(
            "UPDATE template SET deleted_at = clock_timestamp() WHERE tenant = :t AND name = :n AND deleted_at IS NULL"
        ),
        {"t": tenant, "n": name},
    )


def set_policy(
    tx: Tx, tenant: str, name: str, *, min_gangs: int | None, max_gangs: int | None, idle_timeout_s: float | None
) -> Record:
    """Change how many warm gangs the pool keeps."""
    pool = current_pool(tx, tenant, name)
    low = pool.min_gangs if min_gangs is None else min_gangs
    high = pool.max_gangs if max_gangs is None else max_gangs
    if low > high:
        raise Invalid(f"min ({low}) is above max ({high})", pointer="/min")
    return tx.execute(
        text(
            "UPDATE pool SET min_gangs = :low, max_gangs = :high, idle_timeout_s = coalesce(:idle, idle_timeout_s),"
            " held_until = NULL, failed_starts = 0 WHERE id = :p RETURNING *"
        ),
        {"p": pool.id, "low": low, "high": high, "idle": idle_timeout_s},
    ).one()


def _newest(tx: Tx, tenant: str, name: str) -> Record | None:
    return tx.execute(
        text(
            "SELECT version, digest FROM template WHERE tenant = :t AND name = :n AND deleted_at IS NULL"
            " ORDER BY version DESC LIMIT 1"
        ),
        {"t": tenant, "n": name},
    ).one_or_none()


def _top(tx: Tx, tenant: str, name: str) -> int:
    query = text("SELECT coalesce(max(version), 0) FROM template WHERE tenant = :t AND name = :n")
    return int(tx.execute(query, {"t": tenant, "n": name}).scalar_one())


def _add_version(tx: Tx, tenant: str, template: Template, version: int) -> Record:
    spec = json.dumps(template.spec)
    row = {"tenant": tenant, "name": template.name, "version": version, "digest": template.digest, "spec": spec}
    tx.execute(
        text(
            "INSERT INTO template (tenant, name, version, digest, spec)"
            " VALUES (:tenant, :name, :version, :digest, :spec)"
        ),
        row,
    )
    tx.execute(text("UPDATE pool SET current = false WHERE tenant = :tenant AND template = :name AND current"), row)
    return tx.execute(
        text(
            "INSERT INTO pool (id, tenant, template, version, spec, written, min_gangs, max_gangs, idle_timeout_s)"
            " VALUES (:id, :tenant, :name, :version, :spec, :spec, :low, :high, :idle) RETURNING *"
        ),
        {
            **row,
            "id": new_id("pol"),
            "low": template.pool.min,
            "high": template.pool.max,
            "idle": template.pool.idle_timeout_s,
        },
    ).one()


def start_timeout_s(tx: Tx, gang_id: str) -> float:
    """How long this gang's template lets a gang start."""
    query = text(
        "SELECT (p.spec #>> '{limits,start_timeout_s}')::float8 FROM gang g JOIN pool p ON p.id = g.pool_id"
        " WHERE g.id = :g"
    )
    return float(tx.execute(query, {"g": gang_id}).scalar_one())
