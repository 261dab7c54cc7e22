"""The promises of the design (section 5) as queries: what must hold in the database at every moment.

Each query is one statement, so it sees one snapshot and may run while the service works. It returns what is wrong, as
(subject, detail); an empty answer means that the promise holds. Nothing here repairs anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from orchestrator import storage
from orchestrator.domain.states import BATCH_MOVES, BATCH_OVER, GANG_MOVES, LEASED, REQUEST_MOVES, TERMINAL, Move
from orchestrator.store import batch_invariants, log_invariants, schedule_invariants
from orchestrator.store.database import Record, Tx

_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One promise that does not hold for one thing."""

    invariant: str
    subject: str
    detail: str


def check(tx: Tx) -> list[Violation]:
    """Every violation that the database shows."""
    return [
        Violation(invariant=invariant, subject=str(subject), detail=str(detail))
        for invariant, query in _CHECKS
        for subject, detail in tx.execute(text(query), _WORDS)
    ] + [
        Violation(invariant="I17", subject=subject, detail=detail)
        for subject, detail in schedule_invariants.unaccounted(tx)
    ]


def outputs(tx: Tx) -> Sequence[Record]:
    """All published files, for `damaged`."""
    return tx.execute(text("SELECT request_id, name, uri, bytes, sha256 FROM output ORDER BY request_id, name")).all()


def damaged(published: Iterable[Record]) -> list[Violation]:
    """I25: published files that are not in storage as they were published. Reads all of them."""
    return [
        Violation(invariant="I25", subject=one.request_id, detail=f"output {one.name!r}: {why}")
        for one in published
        if (why := _damage(one)) is not None
    ]


def _damage(output: Record) -> str | None:
    digest, size = hashlib.sha256(), 0
    try:
        with storage.reading(*storage.place(output.uri)) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except OSError as error:
        return f"cannot be read ({error})"
    if size != output.bytes:
        return f"{size} bytes instead of {output.bytes}"
    return None if digest.hexdigest() == output.sha256 else "has another sha256"


def _moves(table: Mapping[str, Move], prefix: str) -> dict[str, list[str]]:
    """The legal moves as three columns; an empty source means that the thing begins to exist."""
    rows = [(move.name, source, move.target) for move in table.values() for source in sorted(move.sources) or [""]]
    return {f"{prefix}_{name}": list(column) for name, column in zip(_COLUMNS, zip(*rows, strict=True), strict=True)}


_COLUMNS = ("move", "source", "target")
_WORDS: dict[str, object] = {
    "terminal": sorted(TERMINAL),
    "leased": sorted(LEASED),
    "over": sorted(BATCH_OVER),
    **_moves(REQUEST_MOVES, "request"),
    **_moves(GANG_MOVES, "gang"),
    **_moves(BATCH_MOVES, "batch"),
}

# ------------------------------------------------------------------------------------- one end, always a clock (I2, I3)

_ONE_END = """
SELECT r.id, format('%s, with %s terminal events', r.state, count(e.seq))
FROM request r LEFT JOIN event e ON e.subject = r.id AND e.data ->> 'state' = ANY(:terminal)
GROUP BY r.id, r.state HAVING count(e.seq) <> CASE WHEN r.state = ANY(:terminal) THEN 1 ELSE 0 END
"""
_GUARDED = """
SELECT 'request', 'the trigger that keeps terminal rows final is missing or off' WHERE NOT EXISTS (
  SELECT FROM pg_trigger WHERE tgrelid = 'request'::regclass AND tgname = 'request_final' AND tgenabled IN ('O', 'A'))
"""
_CLOCK = """
SELECT id, format('%s, its clock is %s', state, coalesce('overdue since ' || next_check_at, 'missing'))
FROM (SELECT id, state, next_check_at FROM request WHERE state <> ALL(:terminal)
      UNION ALL SELECT id, state, next_check_at FROM gang WHERE state <> 'gone'
      UNION ALL SELECT id, state, next_check_at FROM batch WHERE state <> ALL(:over)
      UNION ALL SELECT id, 'active', next_check_at FROM schedule WHERE ended_at IS NULL) open
WHERE coalesce(next_check_at, '-infinity') < clock_timestamp() - interval '60 seconds'
"""

# ------------------------------------------------------------------------------ leases and results (I4, I5, I6, I7, I8)

_NUMBERS = """
SELECT r.id, format('%s attempts, numbered %s', r.attempts, coalesce(array_agg(a.number ORDER BY a.number)::text, '{}'))
FROM request r LEFT JOIN attempt a ON a.request_id = r.id
GROUP BY r.id, r.attempts
HAVING count(a.id) <> r.attempts OR coalesce(max(a.number), 0) <> r.attempts OR count(DISTINCT a.number) <> count(a.id)
"""
_ONE_LEASE = """
SELECT r.id, format('%s on gang %s, with %s live leases', r.state, coalesce(r.gang_id, 'none'), count(a.id))
FROM request r LEFT JOIN attempt a ON a.request_id = r.id AND a.ended_at IS NULL
GROUP BY r.id, r.state, r.gang_id
HAVING count(a.id) <> CASE WHEN r.state = ANY(:leased) THEN 1 ELSE 0 END OR max(a.gang_id) IS DISTINCT FROM r.gang_id
"""
_OVERLAP = """
SELECT request_id, format('attempt %s was granted before attempt %s ended', number + 1, number)
FROM (SELECT request_id, number, coalesce(ended_at, 'infinity') AS until,
             lead(granted_at) OVER (PARTITION BY request_id ORDER BY number) AS next FROM attempt) a
WHERE next < until
"""
_ORPHAN_ATTEMPT = """
SELECT a.id, 'an attempt of no request' FROM attempt a
WHERE NOT EXISTS (SELECT FROM request r WHERE r.id = a.request_id)
  AND NOT EXISTS (SELECT FROM purged p WHERE p.id = a.request_id)
"""
_EFFECT = """
SELECT a.request_id, format('attempt %s succeeded, but it is %s by %s', a.number, r.state, coalesce(t.attempt_id, '-'))
FROM attempt a JOIN request r ON r.id = a.request_id LEFT JOIN result t ON t.request_id = r.id
WHERE a.outcome = 'succeeded' AND (r.state <> 'succeeded' OR t.attempt_id IS DISTINCT FROM a.id)
"""
_RESULT = """
SELECT t.request_id, format('%s; its result says %s by attempt %s of %s, which is %s', r.state, t.outcome,
                            coalesce(a.number::text, '-'), r.attempts, coalesce(a.outcome, '-'))
FROM result t JOIN request r ON r.id = t.request_id LEFT JOIN attempt a ON a.id = t.attempt_id
WHERE t.outcome <> r.state OR CASE
  WHEN t.attempt_id IS NULL THEN r.state = 'succeeded'
  ELSE a.number IS DISTINCT FROM r.attempts OR a.request_id <> r.id OR NOT CASE r.state
    WHEN 'succeeded' THEN a.outcome = 'succeeded'
    WHEN 'failed' THEN a.outcome IN ('failed', 'lost')
    WHEN 'canceled' THEN a.outcome = 'canceled'
    ELSE false END
  END
"""
_RESULT_FITS = """
SELECT t.request_id, format('%s, but its result %s', t.outcome,
         CASE WHEN t.error IS NULL THEN 'names no error' ELSE 'has a value or an error that it must not have' END)
FROM result t
WHERE (t.outcome IN ('failed', 'expired') AND t.error ->> 'code' IS NULL)
   OR (t.outcome = 'succeeded' AND t.error IS NOT NULL) OR (t.outcome <> 'succeeded' AND t.value IS NOT NULL)
"""
_CLOSED_ONCE = """
SELECT coalesce(r.id, t.request_id, u.request_id), format('%s, with %s result and %s usage',
         coalesce(r.state, 'unknown'), (t.request_id IS NOT NULL)::int, (u.request_id IS NOT NULL)::int)
FROM request r
FULL JOIN result t ON t.request_id = r.id
FULL JOIN (SELECT * FROM usage WHERE request_id NOT IN (SELECT id FROM purged)) u
  ON u.request_id = coalesce(r.id, t.request_id)
WHERE r.id IS NULL OR (r.state = ANY(:terminal)) <> (t.request_id IS NOT NULL)
   OR (r.state = ANY(:terminal)) <> (u.request_id IS NOT NULL)
"""
_PURGED = """
SELECT p.id, 'deleted, and something of it is still there' FROM purged p
WHERE EXISTS (SELECT FROM request WHERE id = p.id) OR EXISTS (SELECT FROM payload WHERE request_id = p.id)
   OR EXISTS (SELECT FROM event WHERE subject = p.id) OR EXISTS (SELECT FROM output WHERE request_id = p.id)
"""
_USAGE = """
SELECT u.request_id, format('usage of %s attempts and %s s by %s', u.attempts, u.run_s, u.tenant)
FROM usage u JOIN request r ON r.id = u.request_id
WHERE u.attempts <> r.attempts OR u.tenant <> r.tenant OR u.pool_id <> r.pool_id OR u.run_s < 0 OR u.gpu_seconds < 0
"""
_OUTPUTS_OF_SUCCESS = """
SELECT o.request_id, format('%s, but shows output %s', r.state, o.name)
FROM output o LEFT JOIN request r ON r.id = o.request_id WHERE r.state IS DISTINCT FROM 'succeeded'
"""
_HEARD = """
SELECT w.id, format('the end of %s (event %s) was not written down for it', e.subject, e.seq)
FROM webhook w JOIN request r ON w.hears IN (r.id, 't:' || r.tenant) AND w.tenant = r.tenant
  AND coalesce(w.digest, r.body_digest) = r.body_digest
JOIN event e ON e.subject = r.id AND e.data ->> 'state' = ANY(:terminal)
WHERE w.disabled_at IS NULL AND 'request.' || (e.data ->> 'state') = ANY(w.events)
  AND e.at > w.hears_since + CASE WHEN w.hears = r.id THEN interval '0' ELSE interval '10 seconds' END
  AND e.at > clock_timestamp() - interval '1 day'
  AND NOT EXISTS (SELECT FROM delivery d WHERE (d.webhook_id, d.subject, d.seq) = (w.id, e.subject, e.seq))
"""
"""A move under way when an endpoint was made may not have seen it: hence ten seconds, the longest statement."""
_BOUNDED = """
SELECT id, format('%s after %s of %s attempts and %s of %s crashes',
                  state, attempts, max_attempts, crashes, max_crashes)
FROM request
WHERE attempts > max_attempts OR crashes > least(max_crashes, attempts)
   OR (state = 'queued' AND (attempts >= max_attempts OR crashes >= max_crashes))
"""

# ------------------------------------------------------------------------------------------------- gangs (I9, I10, I23)

_UNWANTED = """
SELECT id, format('gone since %s, and the backend may still hold it', gone_at)
FROM gang WHERE state = 'gone' AND present AND gone_at < clock_timestamp() - interval '120 seconds'
"""
_LEASE_ON_WHOLE_GANG = """
SELECT a.request_id, format('a live lease on incarnation %s of gang %s: %s, incarnation %s, %s of %s ranks',
                            a.incarnation, a.gang_id, g.state, g.incarnation, count(k.rank), g.world)
FROM attempt a LEFT JOIN gang g ON g.id = a.gang_id
LEFT JOIN gang_rank k ON k.gang_id = g.id AND k.incarnation = g.incarnation AND k.ready_at IS NOT NULL
WHERE a.ended_at IS NULL
GROUP BY a.id, g.id
HAVING g.id IS NULL OR g.state NOT IN ('ready', 'draining') OR g.incarnation <> a.incarnation
    OR count(k.rank) <> g.world
"""
_GRANTED_TO_WHOLE_GANG = """
SELECT a.request_id, format('attempt %s was granted when %s of %s ranks of gang %s were ready', a.number, count(k.rank),
                            g.world, g.id)
FROM attempt a JOIN gang g ON g.id = a.gang_id
LEFT JOIN gang_rank k ON k.gang_id = a.gang_id AND k.incarnation = a.incarnation AND k.ready_at <= a.granted_at
GROUP BY a.id, g.id HAVING count(k.rank) <> g.world
"""
_READY_IS_WHOLE = """
SELECT g.id, format('ready with %s of %s ranks', count(k.rank), g.world)
FROM gang g LEFT JOIN gang_rank k ON k.gang_id = g.id AND k.incarnation = g.incarnation AND k.ready_at IS NOT NULL
WHERE g.state = 'ready' GROUP BY g.id HAVING count(k.rank) <> g.world
"""
_ONE_LEASE_PER_SLOT = """
SELECT gang_id, format('%s live leases on slot %s', count(*), slot) FROM attempt WHERE ended_at IS NULL
GROUP BY gang_id, slot HAVING count(*) > 1
"""
_SLOT_EXISTS = """
SELECT a.request_id, format('attempt %s ran on slot %s of gang %s, which has %s', a.number, a.slot, g.id, g.replicas)
FROM attempt a JOIN gang g ON g.id = a.gang_id WHERE a.slot NOT BETWEEN 0 AND g.replicas - 1
"""
_RIGHT_GANG = """
SELECT a.request_id, format('attempt %s ran on gang %s of %s for %s', a.number, g.id, g.pool_id,
                            coalesce(g.request_id, g.batch_id, 'its pool'))
FROM attempt a JOIN gang g ON g.id = a.gang_id JOIN request r ON r.id = a.request_id
LEFT JOIN batch b ON b.id = r.batch_id
WHERE g.pool_id <> r.pool_id OR (g.mode = 'batch'
     AND coalesce(g.request_id, g.batch_id) IS DISTINCT FROM CASE WHEN g.batch_id IS NULL THEN r.id ELSE r.batch_id END)
   OR (g.mode = 'serve' AND r.placement <> 'warm' AND b.shared IS NOT TRUE)
   OR (g.mode = 'batch' AND r.placement = 'warm')
"""
_OPENED_BY_THE_DEAD = """
SELECT id, 'gone, and its incarnation token still opens it' FROM gang
WHERE state = 'gone' AND session_hash IS NOT NULL
"""

# ----------------------------------------------------------------------------------- cancels and clocks (I11, I12, I13)

_CANCEL = """
SELECT r.id, format('canceling since %s', e.at)
FROM request r JOIN event e ON e.subject = r.id AND e.move = 'ask_cancel'
WHERE r.state = 'canceling' AND e.at < clock_timestamp() - interval '60 seconds'
"""
_ORDER_OF_TIMES = """
SELECT request_id, format('attempt %s: granted %s, started %s, ended %s', number, granted_at, started_at, ended_at)
FROM attempt
WHERE started_at < granted_at OR ended_at < coalesce(started_at, granted_at)
   OR greatest(granted_at, started_at, ended_at) > clock_timestamp() + interval '1 second'
UNION ALL
SELECT id, format('created %s, assigned %s, finished %s', created_at, assigned_at, finished_at) FROM request
WHERE assigned_at < created_at OR finished_at < greatest(created_at, assigned_at)
   OR greatest(created_at, assigned_at, finished_at) > clock_timestamp() + interval '1 second'
UNION ALL
SELECT subject, format('event %s is older than the one before', seq)
FROM (SELECT subject, seq, at, lag(at) OVER (PARTITION BY subject ORDER BY seq) AS before FROM event) e
WHERE at < before
"""
_STARTED_IN_TIME = """
SELECT r.id, format('had to start by %s; attempt %s was granted at %s', r.start_by, a.number, a.granted_at)
FROM request r JOIN attempt a ON a.request_id = r.id
WHERE a.granted_at > r.start_by + interval '1 second'
"""
_ONE_PER_KEY = """
SELECT min(id), format('%s requests with Idempotency-Key %s', count(*), idempotency_key)
FROM request WHERE idempotency_key IS NOT NULL GROUP BY tenant, idempotency_key HAVING count(*) > 1
"""

_CHECKS = (
    ("I2", _ONE_END),
    ("I2", _GUARDED),
    ("I3", _CLOCK),
    ("I4", _NUMBERS),
    ("I4", _ONE_LEASE),
    ("I4", _OVERLAP),
    ("I4", _ORPHAN_ATTEMPT),
    ("I5", _EFFECT),
    ("I6", _RESULT),
    ("I6", _RESULT_FITS),
    ("I7", _CLOSED_ONCE),
    ("I7", _PURGED),
    ("I7", _USAGE),
    ("I7", _OUTPUTS_OF_SUCCESS),
    ("I7", _HEARD),
    ("I8", _BOUNDED),
    ("I9", _UNWANTED),
    ("I10", _LEASE_ON_WHOLE_GANG),
    ("I10", _GRANTED_TO_WHOLE_GANG),
    ("I10", _READY_IS_WHOLE),
    ("I10", _ONE_LEASE_PER_SLOT),
    ("I10", _SLOT_EXISTS),
    ("I10", _RIGHT_GANG),
    ("I11", _CANCEL),
    ("I12", _ORDER_OF_TIMES),
    ("I12", _STARTED_IN_TIME),
    ("I13", _ONE_PER_KEY),
    *log_invariants.CHECKS,
    *schedule_invariants.CHECKS,
    *batch_invariants.CHECKS,
    ("I23", _OPENED_BY_THE_DEAD),
)
