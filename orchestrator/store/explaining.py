"""What is read to explain a request, a gang or a pool. Read-only; for people, a few queries per look are fine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from orchestrator.domain import advice
from orchestrator.domain.explaining import Cause, GangFacts, PoolFacts, RankAt, RequestFacts, Running, Usual
from orchestrator.store import arrivals, gang_looks, losses, requests, templates
from orchestrator.store.database import Record, Tx

NAMED_AHEAD = 3
_MOST_GANGS = 50


def request(tx: Tx, tenant: str, request_id: str) -> tuple[RequestFacts, PoolFacts, Usual]:
    """Raises NotFound, also for another tenant's."""
    row = requests.get(tx, tenant, request_id)
    pool = _pool(tx, tenant, row.pool_id, request_id)
    times = tx.execute(_TIMES, {"id": request_id}).one()
    queued = row.state == "queued"
    gang = next((one for one in pool.gangs if one.id == row.gang_id), None) if row.gang_id else None
    facts = RequestFacts(
        id=row.id,
        state=row.state,
        mode=row.mode,
        placement=row.placement,
        placement_reason=row.placement_reason,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        waited_s=float(times.waited_s),
        ahead=requests.position(tx, row) if queued else 0,
        ahead_ids=_ahead(tx, tenant, row) if queued and row.batch_id is None else (),
        backoff_s=_seconds(times.backoff_s),
        start_within_s=_seconds(times.start_within_s),
        timeout_s=row.timeout_s,
        no_progress_s=times.no_progress_s,
        gang=gang,
        error=row.error,
        losses=losses.of_request(tx, request_id) if row.attempts else (),
        run_s=row.run_s,
        cold_start_s=float(times.cold_s or 0.0),
        batch=row.batch_id,
        batch_state=times.batch_state,
        failed_start=times.failed_start,
    )
    return facts, pool, _usual(tx, tenant, pool)


def gang(tx: Tx, tenant: str, gang_id: str) -> tuple[GangFacts, Usual, Cause | None]:
    """By ID or by name. Raises NotFound, also for another tenant's."""
    row = gang_looks.get(tx, tenant, gang_id)
    (facts,) = _gangs(tx, tenant, "g.id = :key", row.id)
    pool = _pool(tx, tenant, row.pool_id)
    return facts, _usual(tx, tenant, pool), _cause_of(tx, row)


def pool(tx: Tx, tenant: str, template: str) -> tuple[PoolFacts, Usual]:
    """The current pool of a template. Raises NotFound, also for another tenant's."""
    facts = _pool(tx, tenant, templates.current_pool(tx, tenant, template).id)
    return facts, _usual(tx, tenant, facts)


_TIMES = text("""
SELECT extract(epoch FROM coalesce(r.assigned_at, r.finished_at, clock_timestamp()) - r.created_at) AS waited_s,
       CASE WHEN r.state = 'queued' AND r.run_at > clock_timestamp()
            THEN extract(epoch FROM r.run_at - clock_timestamp()) END AS backoff_s,
       CASE WHEN r.state = 'queued' THEN extract(epoch FROM r.start_by - clock_timestamp()) END AS start_within_s,
       (p.spec #>> '{limits,no_progress_s}')::float8 AS no_progress_s,
       (SELECT extract(epoch FROM greatest(g.first_ready_at - greatest(g.launched_at, r.created_at), interval '0'))
        FROM attempt a JOIN gang g ON g.id = a.gang_id
        WHERE a.request_id = r.id AND a.number = r.attempts AND g.first_ready_at > r.created_at) AS cold_s,
       (SELECT b.state FROM batch b WHERE b.id = r.batch_id) AS batch_state,
       CASE WHEN r.state = 'failed' AND r.attempts = 0 THEN
         (SELECT g.id FROM gang g WHERE g.pool_id = r.pool_id AND g.state = 'gone' AND g.first_ready_at IS NULL
            AND g.gone_at <= r.finished_at ORDER BY g.gone_at DESC LIMIT 1) END AS failed_start
FROM request r JOIN pool p ON p.id = r.pool_id WHERE r.id = :id
""")
_AHEAD = text("""
SELECT id FROM request WHERE state = 'queued' AND pool_id = :pool AND placement = :placement AND tenant = :tenant
  AND batch_id IS NULL
  AND (due_at, id) < (:due, :id) ORDER BY due_at, id LIMIT :n
""")


def _ahead(tx: Tx, tenant: str, row: Record) -> Sequence[str]:
    """The first requests before this one, of the same tenant: others are counted, never named."""
    values = {"pool": row.pool_id, "placement": row.placement, "tenant": tenant, "due": row.due_at, "id": row.id}
    return tx.execute(_AHEAD, {**values, "n": NAMED_AHEAD}).scalars().all()


_POOL = text("""
SELECT p.*, CASE WHEN p.held_until > clock_timestamp()
            THEN extract(epoch FROM p.held_until - clock_timestamp()) END AS held_s,
       (SELECT count(*) FROM request r
        WHERE r.pool_id = p.id AND r.placement = 'warm' AND r.state = 'queued') AS queued,
       count(g.id) FILTER (WHERE g.mode = 'serve' AND g.state IN ('draining', 'gone')) AS ending,
       count(g.id) FILTER (WHERE g.mode = 'batch') AS batch_gangs
FROM pool p LEFT JOIN gang g ON g.pool_id = p.id AND (g.state <> 'gone'
     OR g.present AND g.gone_at > clock_timestamp() - interval '10 minutes')
WHERE p.id = :p GROUP BY p.id
""")


def _pool(tx: Tx, tenant: str, pool_id: str, request: str = "") -> PoolFacts:
    row = tx.execute(_POOL, {"p": pool_id}).one()
    return PoolFacts(
        template=row.template,
        version=row.version,
        current=row.current,
        min_gangs=row.min_gangs,
        max_gangs=row.max_gangs,
        max_batch_gangs=row.spec["batch"]["max_gangs"],
        queued=row.queued,
        ending=row.ending,
        batch_gangs=row.batch_gangs,
        failed_starts=row.failed_starts,
        held_s=_seconds(row.held_s),
        held_reason=row.held_reason,
        gangs=_gangs(tx, tenant, "g.pool_id = :key AND g.state <> 'gone'", pool_id, request),
    )


_GANGS = f"""
SELECT g.*, (p.spec #>> '{{limits,start_timeout_s}}')::float8 AS start_timeout_s,
       extract(epoch FROM clock_timestamp() - coalesce(
         (SELECT e.at FROM event e WHERE e.subject = g.id AND e.seq = g.version), g.planned_at)) AS since_s,
       CASE WHEN a.id IS NULL AND g.state = 'ready' THEN extract(epoch FROM clock_timestamp() - greatest(g.ready_at,
         (SELECT max(o.ended_at) FROM attempt o WHERE o.gang_id = g.id))) END AS idle_s,
       extract(epoch FROM clock_timestamp() - g.launched_at) AS launched_s,
       b.starting, extract(epoch FROM clock_timestamp() - b.starting_at) AS starting_s,
       extract(epoch FROM clock_timestamp() - b.seen_at) AS beat_s, b.ranks AS steps,
       a.id IS NOT NULL AS busy, a.slot,
       (SELECT count(*) FROM attempt l WHERE l.gang_id = g.id AND l.ended_at IS NULL) AS leases,
       CASE WHEN r.tenant = :tenant THEN r.id END AS serving,
       extract(epoch FROM clock_timestamp() - coalesce(a.started_at, a.granted_at)) AS running_s,
       m.phase, m.current, m.total, extract(epoch FROM clock_timestamp() - m.moved_at) AS moved_s,
       ARRAY(SELECT k.rank FROM gang_rank k WHERE k.gang_id = g.id AND k.incarnation = g.incarnation) AS joined,
       (SELECT count(*) FROM gang_rank k WHERE k.gang_id = g.id AND k.incarnation = g.incarnation
          AND k.ready_at IS NOT NULL) AS ready_ranks, {arrivals.SHOWN}, clock_timestamp() AS now
FROM gang g JOIN pool p ON p.id = g.pool_id
{arrivals.JOIN}
LEFT JOIN gang_beat b ON b.gang_id = g.id AND b.incarnation = g.incarnation
LEFT JOIN LATERAL (SELECT * FROM attempt l WHERE l.gang_id = g.id AND l.ended_at IS NULL
  ORDER BY l.request_id <> :request, l.granted_at LIMIT 1) a ON true
LEFT JOIN request r ON r.id = a.request_id
LEFT JOIN progress m ON m.request_id = a.request_id AND m.attempt_id = a.id
"""


def _gangs(tx: Tx, tenant: str, where: str, key: str, request: str = "") -> list[GangFacts]:
    """Of several requests that a gang runs the one asked for is told, or the one that began first."""
    query = text(f"{_GANGS} WHERE {where} ORDER BY g.planned_at LIMIT {_MOST_GANGS}")
    return [_gang(row) for row in tx.execute(query, {"tenant": tenant, "key": key, "request": request})]


def _gang(row: Record) -> GangFacts:
    loading = row.state == "loading"
    way = arrivals.coming(row)
    return GangFacts(
        id=row.id,
        state=row.state,
        mode=row.mode,
        world=row.world,
        since_s=float(row.since_s if row.idle_s is None else row.idle_s),
        launched_s=_seconds(row.launched_s),
        incarnation=row.incarnation,
        breaks=row.breaks,
        busy=row.busy,
        replicas=row.replicas,
        leases=row.leases,
        request=row.serving,
        for_request=row.request_id,
        for_batch=row.batch_id,
        starting=row.starting if loading else None,
        starting_s=_seconds(row.starting_s) if loading else None,
        coming=way.name if way else None,
        coming_s=max(0.0, (row.now - way.begin).total_seconds()) if way else None,
        joined=len(row.joined),
        ready=row.ready_ranks,
        missing=sorted({*range(row.world)} - {*row.joined}) if loading else (),
        running=_run(row) if row.busy else None,
        reason_code=row.reason_code,
        reason=row.reason,
        seen_reason=row.seen_reason,
        seen_detail=row.seen_detail,
        start_timeout_s=row.start_timeout_s if row.state in ("launching", "loading") else None,
    )


def _run(row: Record) -> Running:
    return Running(
        running_s=float(row.running_s),
        phase=row.phase,
        current=row.current,
        total=row.total,
        moved_s=_seconds(row.moved_s),
        beat_s=_seconds(row.beat_s),
        ranks=[
            RankAt(rank=one["rank"], step=one.get("step"), age_s=one.get("age_s"))
            for one in row.steps or ()
            if one["rank"] * row.replicas // row.world == row.slot
        ],
    )


_RUNS = text("""
SELECT v.version, u.run_s FROM
  (SELECT id, version FROM pool WHERE tenant = :t AND template = :name AND version <= :v
   ORDER BY version DESC LIMIT 3) v
CROSS JOIN LATERAL
  (SELECT x.run_s FROM
     (SELECT request_id, run_s FROM usage WHERE pool_id = v.id AND run_s > 0 ORDER BY created_at DESC LIMIT 100) x
   JOIN request r ON r.id = x.request_id AND r.state = 'succeeded' LIMIT 20) u
""")


def _took(end: str, begin: str) -> str:
    """Seconds between two moments, of which one may be a little off; null if one is not known."""
    return f"CASE WHEN {end} <= {begin} THEN 0 ELSE extract(epoch FROM {end} - {begin})::float8 END"


_STARTS = text(f"""
SELECT v.version, s.* FROM
  (SELECT id, version FROM pool WHERE tenant = :t AND template = :name AND version <= :v
   ORDER BY version DESC LIMIT 3) v
CROSS JOIN LATERAL
  (SELECT extract(epoch FROM g.first_ready_at - g.launched_at)::float8 AS cold_s,
          CASE WHEN g.incarnation = 1 THEN extract(epoch FROM g.hello_at - g.launched_at)::float8 END AS launch,
          (g.phases ->> 'preflight')::float8 AS preflight, (g.phases ->> 'setup')::float8 AS setup,
          (g.phases ->> 'warmup')::float8 AS warmup, {_took("n.scheduled_at", "g.launched_at")} AS scheduling,
          {_took("n.started_at", "n.scheduled_at")} AS image, {_took("g.hello_at", "n.started_at")} AS start
   FROM gang g LEFT JOIN gang_arrival n ON n.gang_id = g.id AND n.incarnation = 1 AND g.incarnation = 1
   WHERE g.pool_id = v.id AND g.first_ready_at IS NOT NULL ORDER BY g.planned_at DESC LIMIT 10) s
""")


def _usual(tx: Tx, tenant: str, pool: PoolFacts) -> Usual:
    values = {"t": tenant, "name": pool.template, "v": pool.version}
    runs = [(row.version, row.run_s) for row in tx.execute(_RUNS, values)]
    starts: list[dict[str, Any]] = [dict(row._mapping) for row in tx.execute(_STARTS, values)]
    return Usual.of(pool.version, runs, starts)


_COMPLAINT = text("""
SELECT e.rank, e.node, e.phase, e.step, e.traceback,
       (SELECT string_agg(c.body, '' ORDER BY c.seq) FROM
          (SELECT l.body, l.seq FROM log_chunk l WHERE l.gang_id = e.gang_id AND l.incarnation = e.incarnation
           AND l.rank = e.rank ORDER BY l.seq DESC LIMIT 8) c) AS log
FROM rank_error e WHERE e.gang_id = :g AND e.incarnation = :i ORDER BY e.id LIMIT 1
""")


def _cause_of(tx: Tx, row: Record) -> Cause | None:
    """Of a gang that is gone for a reason that somebody has to do something about."""
    if row.state != "gone" or row.reason_code in (None, "drained", "idle", "replaced", "recycled", "stopped"):
        return None
    said = tx.execute(_COMPLAINT, {"g": row.id, "i": row.incarnation}).one_or_none()
    told: dict[str, Any] = dict(said._mapping) if said else {}
    if told.get("log"):
        told["log"] = "\n".join(told["log"].splitlines()[-losses.LAST_LINES :])
    return Cause(code=row.reason_code, whose=advice.of(row.reason_code).whose, message=row.reason or "", **told)


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)
