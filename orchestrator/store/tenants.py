"""Tenants: what each may have at once and how fast it may ask, and what it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import text

from orchestrator.errors import Invalid
from orchestrator.store.database import Record, Tx

BOUNDS = ("max_open", "max_queued", "max_waits", "submit_rate", "weight")
"""What `set_bounds` takes. None goes back to the settings of the installation."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A tenant at one moment. A bound that is None is that of the settings."""

    max_open: int | None = None
    max_queued: int | None = None
    max_waits: int | None = None
    submit_rate: float | None = None
    running: int = 0
    """Requests that gangs hold now."""
    queued: Mapping[str, int] = field(default_factory=dict)
    """Requests that wait, by pool; counted to `most` each. Items of batches are not among them."""
    replicas: int = 1
    """Replicas that listen now."""

    @property
    def open(self) -> int:
        """Requests that are not at their end."""
        return self.running + sum(self.queued.values())


_STANDING = text("""
WITH own AS MATERIALIZED (SELECT id FROM pool WHERE tenant = :t)
SELECT t.max_open, t.max_queued, t.max_waits, t.submit_rate,
  (SELECT count(*) FROM own JOIN gang g ON g.pool_id = own.id AND g.state <> 'gone'
     JOIN attempt a ON a.gang_id = g.id AND a.ended_at IS NULL) AS running,
  (SELECT coalesce(json_object_agg(id, n), '{}') FROM (
     SELECT own.id, (SELECT count(*) FROM (
        (SELECT FROM request r WHERE r.pool_id = own.id AND r.placement = 'warm' AND r.state = 'queued' LIMIT :most)
        UNION ALL
        (SELECT FROM request r WHERE r.pool_id = own.id AND r.placement = 'batch' AND r.state = 'queued'
           AND r.batch_id IS NULL LIMIT :most)
        LIMIT :most) q) AS n FROM own) c
   WHERE n > 0) AS queued,
  (SELECT count(*) FROM pg_stat_activity
   WHERE datname = current_database() AND application_name LIKE 'muster-listen-%') AS replicas
FROM tenant t WHERE t.id = :t
""")


def standing(tx: Tx, tenant: str, most: int) -> Standing:
    """What a tenant has and may have. No row is read that is not its own, and no more than `most` of a pool."""
    row = tx.execute(_STANDING, {"t": tenant, "most": most}).one_or_none()
    if row is None:
        return Standing()
    return Standing(
        max_open=row.max_open,
        max_queued=row.max_queued,
        max_waits=row.max_waits,
        submit_rate=row.submit_rate,
        running=row.running,
        queued=row.queued,
        replicas=max(1, row.replicas),
    )


def set_bounds(tx: Tx, tenant: str, bounds: Mapping[str, float | None]) -> Record:
    """Make the tenant if it is new, and change what is named. Raises Invalid for a name that is none."""
    if not tenant.replace("-", "").isalnum() or not tenant.isascii() or not 0 < len(tenant) <= 63:
        raise Invalid(f"{tenant!r} is no name of a tenant: 1 to 63 letters, digits and dashes")
    if unknown := sorted(bounds.keys() - set(BOUNDS)):
        raise Invalid(f"no bound {unknown[0]!r}; there are {', '.join(BOUNDS)}")
    enter(tx, tenant)
    changes = ", ".join(f"{name} = :{name}" for name in bounds) or "id = id"
    return tx.execute(text(f"UPDATE tenant SET {changes} WHERE id = :id RETURNING *"), {"id": tenant, **bounds}).one()


def enter(tx: Tx, tenant: str) -> None:
    """Make the tenant if it is new."""
    tx.execute(text("INSERT INTO tenant (id) VALUES (:id) ON CONFLICT DO NOTHING"), {"id": tenant})


def list_all(tx: Tx) -> Sequence[Record]:
    """Every tenant with its bounds."""
    return tx.execute(text("SELECT * FROM tenant ORDER BY id")).all()


def names(tx: Tx, most: int) -> Sequence[str]:
    """Of the first tenants by name."""
    return tx.execute(text("SELECT id FROM tenant ORDER BY id LIMIT :most"), {"most": most}).scalars().all()


def open_of(tx: Tx, tenants: Sequence[str]) -> dict[str, int]:
    """How many requests each of these has that are not at their end; those without any are left out."""
    rows = tx.execute(
        text(
            "SELECT tenant, count(*) AS n FROM request WHERE tenant = ANY(:tenants)"
            " AND state IN ('queued', 'assigned', 'running', 'canceling') GROUP BY tenant"
        ),
        {"tenants": list(tenants)},
    )
    return {row.tenant: row.n for row in rows}
