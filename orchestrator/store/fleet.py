"""Pools and gangs as people look at them: many at once, each look bounded. Read-only, one statement per question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.store import arrivals
from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared

# --------------------------------------------------------------------------------------------------------------- pools

_POOLS = """
SELECT p.id, p.template, p.version, p.min_gangs, p.max_gangs, p.idle_timeout_s, p.failed_starts, p.current,
       (p.spec ->> 'nodes')::int AS nodes, (p.spec ->> 'ranks_per_node')::int AS ranks_per_node,
       (p.spec #>> '{batch,max_gangs}')::int AS max_batch_gangs,
       CASE WHEN p.held_until > clock_timestamp() THEN p.held_until END AS held_until, p.held_reason,
       (SELECT coalesce(json_agg(json_build_object('mode', s.mode, 'state', s.state, 'n', s.n)), '[]') FROM (
          SELECT g.mode, CASE WHEN g.state <> 'ready' THEN g.state WHEN EXISTS (
                   SELECT FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL) THEN 'busy' ELSE 'idle' END
                   AS state, count(*) AS n
          FROM gang g
          WHERE g.pool_id = p.id AND g.state <> 'gone' GROUP BY 1, 2) s) AS gangs
FROM pool p
"""
_CURRENT = prepared(f"{_POOLS} WHERE p.tenant = :t AND p.current ORDER BY p.template LIMIT :n")
_POOL = prepared(f"{_POOLS} WHERE p.tenant = :t AND p.template = :name AND p.current")
_NAMES = prepared("SELECT template FROM pool WHERE tenant = :t AND current ORDER BY template LIMIT 1000")
_OLD = prepared(f"""{_POOLS} WHERE p.id = ANY(ARRAY(SELECT g.pool_id FROM gang g WHERE g.state <> 'gone'))
  AND p.tenant = :t AND NOT p.current ORDER BY p.template, p.version LIMIT 50""")


def pools(tx: Tx, tenant: str, limit: int) -> Sequence[Record]:
    """The current ones by template; `gangs` counts the live ones by mode and state, `held_until` is None in peace."""
    return tx.execute(_CURRENT, {"t": tenant, "n": limit}).all()


def pool(tx: Tx, tenant: str, template: str) -> Record | None:
    """The current one of a template, as `pools` shows it."""
    return tx.execute(_POOL, {"t": tenant, "name": template}).one_or_none()


def names(tx: Tx, tenant: str) -> Sequence[str]:
    """Of the templates that there are, the first thousand."""
    return tx.execute(_NAMES, {"t": tenant}).scalars().all()


def old_pools(tx: Tx, tenant: str) -> Sequence[Record]:
    """Those of older versions that still have gangs."""
    return tx.execute(_OLD, {"t": tenant}).all()


_WAITING = prepared("""
SELECT template, state, batch_id IS NOT NULL AS item, count(*) AS n,
       min(created_at) FILTER (WHERE state = 'queued') AS oldest
FROM request WHERE tenant = :t AND next_check_at IS NOT NULL GROUP BY 1, 2, 3
""")


@dataclass(frozen=True, kw_only=True)
class Load:
    """The open requests of one template."""

    template: str
    states: dict[str, int]
    """Without items of batches."""
    items: int
    """Items of batches that wait."""
    oldest: datetime | None
    """When the one was recorded that waits longest; items of batches do not count."""

    @property
    def open(self) -> int:
        return sum(self.states.values())

    @property
    def queued(self) -> int:
        return self.states.get("queued", 0)


def loads(tx: Tx, tenant: str) -> dict[str, Load]:
    """What is open, by template: one pass over the tenant's open requests."""
    found: dict[str, Load] = {}
    for row in tx.execute(_WAITING, {"t": tenant}).all():
        load = found.setdefault(row.template, Load(template=row.template, states={}, items=0, oldest=None))
        waiting = row.n if row.item and row.state == "queued" else 0
        states = load.states if waiting else {**load.states, row.state: load.states.get(row.state, 0) + row.n}
        oldest = load.oldest if row.item else row.oldest or load.oldest
        found[row.template] = Load(template=row.template, states=states, items=load.items + waiting, oldest=oldest)
    return found


_FIRST = prepared("""
SELECT r.id, r.created_at, r.due_at, r.placement, r.run_at > clock_timestamp() AS backoff, r.attempts
FROM request r WHERE r.pool_id = :pool AND r.placement = 'warm' AND r.state = 'queued' AND r.tenant = :t
ORDER BY r.due_at, r.id LIMIT :n
""")


def first_in_line(tx: Tx, tenant: str, pool_id: str, limit: int = 5) -> Sequence[Record]:
    """The tenant's requests that the pool serves next."""
    return tx.execute(_FIRST, {"pool": pool_id, "t": tenant, "n": limit}).all()


_FAILED_START = prepared("""
SELECT g.id, g.name, g.gone_at, g.reason_code, g.reason, e.rank, e.node, e.phase, e.type
FROM gang g LEFT JOIN LATERAL
  (SELECT * FROM rank_error e WHERE e.gang_id = g.id AND e.incarnation = g.incarnation ORDER BY e.id LIMIT 1) e ON true
WHERE g.id = (
  SELECT f.id FROM (SELECT * FROM gang WHERE pool_id = :p ORDER BY planned_at DESC LIMIT 50) f
  WHERE f.state = 'gone' AND f.first_ready_at IS NULL
    AND f.reason_code NOT IN ('drained', 'stopped', 'idle', 'replaced', 'recycled')
  ORDER BY f.planned_at DESC LIMIT 1)
""")


def last_failed_start(tx: Tx, pool_id: str) -> Record | None:
    """Of the pool's last 50 gangs the newest that ended before it was ever ready, and what its first complaining rank
    said.
    """
    return tx.execute(_FAILED_START, {"p": pool_id}).one_or_none()


# --------------------------------------------------------------------------------------------------------------- gangs

_GANGS = f"""
SELECT g.id, g.name, g.template, g.version_of, g.mode, g.world, g.nodes, g.incarnation, g.breaks, g.backend,
       CASE WHEN g.state <> 'ready' THEN g.state WHEN a.id IS NULL THEN 'idle' ELSE 'busy' END AS state,
       g.reason_code, g.reason, g.request_id AS for_request, g.batch_id AS for_batch, g.seen_reason, g.seen_detail,
       g.planned_at, g.launched_at, g.hello_at, g.ready_at, g.first_ready_at, g.gone_at, g.phases,
       CASE WHEN g.state = 'loading' THEN b.starting END AS starting,
       CASE WHEN g.state = 'loading' THEN b.starting_at END AS starting_at,
       b.seen_at, clock_timestamp() AS now,
       (SELECT count(*) FROM attempt x WHERE x.gang_id = g.id AND x.ended_at IS NULL) AS leases,
       a.request_id AS serving, coalesce(a.started_at, a.granted_at) AS serving_since,
       m.phase, m.current, m.total, greatest(g.ready_at, l.ended_at) AS idle_since, {arrivals.SHOWN}
FROM gang g
LEFT JOIN gang_beat b ON b.gang_id = g.id AND b.incarnation = g.incarnation
{arrivals.JOIN}
LEFT JOIN LATERAL (SELECT * FROM attempt x WHERE x.gang_id = g.id AND x.ended_at IS NULL
  ORDER BY x.granted_at LIMIT 1) a ON true
LEFT JOIN progress m ON m.request_id = a.request_id AND m.attempt_id = a.id
LEFT JOIN LATERAL (SELECT z.ended_at FROM attempt z WHERE z.gang_id = g.id ORDER BY z.granted_at DESC LIMIT 1) l ON true
"""
_HEAVY = """CASE WHEN g.state = 'draining' THEN 1 WHEN g.state <> 'ready' THEN 0
            WHEN EXISTS (SELECT FROM attempt x WHERE x.gang_id = g.id AND x.ended_at IS NULL) THEN 2 ELSE 3 END"""
_SOME = prepared(f"""
{_GANGS} JOIN (
  SELECT id, weight, n FROM (
    SELECT g.id, {_HEAVY} AS weight,
           row_number() OVER (PARTITION BY g.template ORDER BY {_HEAVY}, g.planned_at, g.id) AS n
    FROM gang g WHERE g.tenant = :t AND g.state <> 'gone') w WHERE n <= :each ORDER BY n, weight LIMIT :most) s
  ON s.id = g.id ORDER BY g.template, s.n
""")


def some_of_each(tx: Tx, tenant: str, each: int, most: int) -> Sequence[Record]:
    """Live gangs by template, of each at most so many: those that start come first, then draining, busy, idle ones."""
    return tx.execute(_SOME, {"t": tenant, "each": each, "most": most}).all()


_LIVE = prepared(f"""
{_GANGS} WHERE g.tenant = :t AND g.state <> 'gone' AND (CAST(:template AS text) IS NULL OR g.template = :template)
  AND (CAST(:before AS text) IS NULL OR (g.planned_at, g.id) < (CAST(:at AS timestamptz), :before))
ORDER BY g.planned_at DESC, g.id DESC LIMIT :n
""")
_GONE = prepared(f"""
{_GANGS} WHERE g.id = ANY(ARRAY(
  SELECT id FROM gang WHERE tenant = :t AND state = 'gone' AND (CAST(:template AS text) IS NULL OR template = :template)
    AND (CAST(:before AS text) IS NULL OR (gone_at, id) < (CAST(:at AS timestamptz), :before))
  ORDER BY gone_at DESC, id DESC LIMIT :n))
ORDER BY g.gone_at DESC, g.id DESC
""")


def page(
    tx: Tx, tenant: str, *, gone: bool, template: str | None, before: tuple[str, str] | None, limit: int
) -> Sequence[Record]:
    """Live gangs, newest first, or those that are gone, by their end. `before`: (moment, ID) of the last one seen."""
    at, key = before or (None, None)
    values = {"t": tenant, "template": template, "at": at, "before": key, "n": limit}
    return tx.execute(_GONE if gone else _LIVE, values).all()


_ONE = prepared(f"{_GANGS} WHERE g.id = :id")


def gang(tx: Tx, gang_id: str) -> Record:
    """One that is there, as `page` shows it."""
    return tx.execute(_ONE, {"id": gang_id}).one()


_COUNTS = prepared("""
SELECT g.template, CASE WHEN g.state <> 'ready' THEN g.state WHEN EXISTS (
         SELECT FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL) THEN 'busy' ELSE 'idle' END AS state,
       count(*) AS n
FROM gang g
WHERE g.tenant = :t AND g.state <> 'gone' GROUP BY 1, 2
""")


def counts(tx: Tx, tenant: str) -> dict[str, dict[str, int]]:
    """Live gangs: how many of each template are in each state, as it is shown."""
    found: dict[str, dict[str, int]] = {}
    for row in tx.execute(_COUNTS, {"t": tenant}).all():
        found.setdefault(row.template, {})[row.state] = row.n
    return found


_SERVED = prepared("""
SELECT a.request_id, a.number, a.incarnation, a.granted_at, a.ended_at, a.outcome, a.reason_code, a.reason, a.run_s,
       r.state
FROM attempt a JOIN request r ON r.id = a.request_id AND r.tenant = :t
WHERE a.gang_id = :g AND (CAST(:before AS timestamptz) IS NULL OR a.granted_at < :before)
ORDER BY a.granted_at DESC LIMIT :n
""")


def served(tx: Tx, tenant: str, gang_id: str, *, before: datetime | None, limit: int) -> Sequence[Record]:
    """The attempts that a gang had, newest first."""
    return tx.execute(_SERVED, {"t": tenant, "g": gang_id, "before": before, "n": limit}).all()


# --------------------------------------------------------------------------------------------------------- GPU-seconds

_USED = prepared("""
SELECT p.template, r.placement, sum(u.gpu_seconds) AS gpu_s
FROM pool p JOIN usage u ON u.pool_id = p.id AND u.created_at > clock_timestamp() - :s * interval '1 second'
JOIN request r ON r.id = u.request_id WHERE p.tenant = :t GROUP BY 1, 2
""")
_HELD = prepared("""
SELECT g.template, g.mode, sum(gpus * extract(epoch FROM coalesce(g.gone_at, clock_timestamp()) - begun)) AS held_s,
       sum(gpus * greatest(0, extract(epoch FROM
         coalesce(g.first_ready_at, g.gone_at, clock_timestamp()) - begun))) AS starting_s,
       coalesce(sum(gpus / replicas * a.running_s), 0) AS running_s
FROM (SELECT g.*, g.world * coalesce((p.spec ->> 'gpus_per_rank')::float8, 1) AS gpus,
             greatest(g.launched_at, clock_timestamp() - :s * interval '1 second') AS begun
      FROM gang g JOIN pool p ON p.id = g.pool_id
      WHERE g.id = ANY(ARRAY(
        SELECT id FROM gang WHERE tenant = :t AND state <> 'gone'
        UNION ALL SELECT id FROM gang WHERE tenant = :t AND state = 'gone'
          AND gone_at > clock_timestamp() - :s * interval '1 second'))
        AND g.launched_at IS NOT NULL) g
LEFT JOIN LATERAL (SELECT sum(extract(epoch FROM clock_timestamp() - greatest(begun, granted_at))) AS running_s
  FROM attempt WHERE gang_id = g.id AND ended_at IS NULL) a ON true
GROUP BY 1, 2
""")


@dataclass(frozen=True, kw_only=True)
class Spent:
    """GPU-seconds of one template: what its requests used, those that run included, and what its gangs had besides."""

    template: str
    warm: float = 0.0
    batch: float = 0.0
    starting: float = 0.0
    """From a launch to ready."""
    idle: float = 0.0
    """Ready without a request; or with one that was lost, and counts for nothing."""

    @property
    def used(self) -> float:
        return self.warm + self.batch

    @property
    def total(self) -> float:
        return self.used + self.starting + self.idle


def spent(tx: Tx, tenant: str, over_s: float) -> list[Spent]:
    """Over the last so many seconds, most first. Two passes over what happened then: keep the answer for a while."""
    values = {"t": tenant, "s": over_s}
    used = {(row.template, row.placement): float(row.gpu_s) for row in tx.execute(_USED, values)}
    held = {(row.template, row.mode): row for row in tx.execute(_HELD, values)}
    found = [_spent(name, used, held) for name in {name for name, _ in [*used, *held]}]
    return sorted(found, key=lambda one: (-one.total, one.template))


def _spent(template: str, used: dict[tuple[str, str], float], held: dict[tuple[str, str], Record]) -> Spent:
    each = {
        kind: _of_mode(used.get((template, kind), 0.0), held.get((template, mode)))
        for kind, mode in (("warm", "serve"), ("batch", "batch"))
    }
    return Spent(
        template=template,
        warm=each["warm"][0],
        batch=each["batch"][0],
        starting=sum(starting for _, starting, _ in each.values()),
        idle=sum(idle for _, _, idle in each.values()),
    )


def _of_mode(used: float, held: Record | None) -> tuple[float, float, float]:
    """What was used, with what runs now; what starts took; the rest."""
    if held is None:
        return used, 0.0, 0.0
    used += float(held.running_s)
    starting = float(held.starting_s)
    return used, starting, max(0.0, float(held.held_s) - starting - used)
