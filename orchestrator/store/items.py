"""Items of batches: recorded in bulk, handed to gangs one at a time, ended in bulk, tried again, read in order.

A gang of a batch pulls: whoever is free gets the item that is due first. Rows are claimed by the service with SKIP
LOCKED, which is safe here because a gang takes one and nothing is shared between gangs but the queue itself; where a
batch may also use warm gangs, its row is locked, so that `max_parallel` holds.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text

from orchestrator.domain.ids import new_id
from orchestrator.domain.placement import Assignment, Slot
from orchestrator.domain.states import BATCH_SERVED, REQUEST_MOVES, TERMINAL, RequestState
from orchestrator.store import batches, granting, journal, outbox
from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared
from orchestrator.store.requests import FOLD, VIEW, outputs_as_json

ITS_BATCH_LOOKS = "clock_timestamp() + interval '100 years'"
"""The clock of an item that waits: nothing is due of it by itself, its batch has one."""
UNDONE = tuple(sorted(TERMINAL - {RequestState.SUCCEEDED}))

# -------------------------------------------------------------------------------------------------------------- record

_LOGGED = f"""body AS (
  INSERT INTO payload (request_id, input, labels, files)
  SELECT n.id, a.input, a.labels, a.files FROM new n JOIN asked a USING (id)
), labeled AS (
  INSERT INTO request_label (tenant, key, value, created_at, request_id)
  SELECT n.tenant, l.key, l.value, n.created_at, n.id
  FROM new n JOIN asked a USING (id) CROSS JOIN LATERAL jsonb_each_text(a.labels) l
), logged AS (
  INSERT INTO event (subject, seq, at, move, data) SELECT id, 1, created_at, 'record', {FOLD} FROM new
)"""
_COLUMNS = """(id, tenant, template, template_version, pool_id, mode, placement, placement_reason, priority, due_at,
               state, max_attempts, max_crashes, body_digest, output_ttl_s, timeout_s, next_check_at, batch_id, line,
               custom_id, retry_of)"""
_RECORD = text(f"""
WITH asked AS MATERIALIZED (
  SELECT * FROM json_to_recordset(CAST(:asked AS json)) AS a (id text, line int, custom_id text, priority int,
    input jsonb, labels jsonb, files jsonb, timeout_s float8, max_attempts int)
), new AS (
  INSERT INTO request {_COLUMNS}
  SELECT a.id, b.tenant, b.template, b.template_version, b.pool_id, 'batch', 'batch', 'an item of ' || b.id,
         a.priority, b.due_at - a.priority * interval '1 minute', 'queued', a.max_attempts, :max_crashes,
         b.body_digest, :output_ttl_s, a.timeout_s, {ITS_BATCH_LOOKS}, b.id, a.line, a.custom_id, NULL
  FROM asked a, batch b WHERE b.id = :b
  RETURNING *
), {_LOGGED}
SELECT count(*) FROM new
""")


def record(tx: Tx, batch_id: str, rows: str, *, max_crashes: int, output_ttl_s: float | None) -> int:
    """Items of a batch that is not accepted yet; `rows` is a JSON list of them. Returns how many."""
    values = {"asked": rows, "b": batch_id, "max_crashes": max_crashes, "output_ttl_s": output_ttl_s}
    return int(tx.execute(_RECORD, values).scalar_one())


# -------------------------------------------------------------------------------------------------------------- assign

_LOCK_SLOT = prepared("""
SELECT g.id, g.incarnation, g.pool_id, g.batch_id, b.shared, pg_try_advisory_xact_lock(hashtextextended(g.id, :slot))
         AS mine
FROM gang g JOIN batch b ON b.id = g.batch_id
WHERE g.id = :g AND g.state = 'ready' FOR SHARE OF g SKIP LOCKED
""")
"""The gang is shared with its other replicas, which pull for themselves; the slot is one caller's at a time."""
_HOLD = prepared("SELECT FROM batch WHERE id = :b FOR NO KEY UPDATE")
_NEXT = """
SELECT q.id, q.tenant, b.state FROM batch b CROSS JOIN LATERAL (
  SELECT r.id, r.tenant FROM request r
  WHERE r.batch_id = b.id AND r.state = 'queued' AND r.run_at <= clock_timestamp()
  ORDER BY r.due_at, r.line LIMIT 1 FOR UPDATE SKIP LOCKED) q
WHERE b.id = :b AND b.state = ANY(:served)
  AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.gang_id = :g AND a.slot = :slot AND a.ended_at IS NULL)
"""
_NEXT_OF_OWN = prepared(_NEXT)
_NEXT_OF_SHARED = prepared(
    f"{_NEXT} AND b.max_parallel * (SELECT g.replicas FROM gang g WHERE g.id = :g)"
    " > (SELECT count(*) FROM request l WHERE l.batch_id = b.id AND l.gang_id IS NOT NULL)"
)
_ANY_LEFT = prepared(
    "SELECT b.state = ANY(:served) AND EXISTS (SELECT 1 FROM request r WHERE r.batch_id = b.id AND r.state = 'queued')"
    " FROM batch b WHERE b.id = :b"
)


def assign(tx: Tx, gang_id: str, number: int, *, carry: bool = False) -> Sequence[Record]:
    """Give a slot of a ready gang of a batch the next item; the lease as in `granting.grant`, or nothing."""
    gang = tx.execute(_LOCK_SLOT, {"g": gang_id, "slot": number}).one_or_none()
    if gang is None or not gang.mine:
        return ()
    slot = Slot(gang=gang.id, incarnation=gang.incarnation, number=number)
    return hand(tx, gang.batch_id, gang.pool_id, slot, shared=gang.shared, carry=carry)


def hand(tx: Tx, batch_id: str, pool_id: str, slot: Slot, *, shared: bool, carry: bool) -> Sequence[Record]:
    """The next item of the batch for a slot that the caller holds, if it has no lease."""
    if shared:
        tx.execute(_HOLD, {"b": batch_id})
    query = _NEXT_OF_SHARED if shared else _NEXT_OF_OWN
    values = {"b": batch_id, "g": slot.gang, "slot": slot.number, "served": sorted(BATCH_SERVED)}
    row = tx.execute(query, values).one_or_none()
    if row is None:
        return ()
    if row.state == "queued":
        batches.start(tx, batch_id)
    only = Assignment(request=row.id, tenant=row.tenant, slot=slot)
    return granting.grant(tx, pool_id, [only], carry=carry)


def any_left(tx: Tx, batch_id: str) -> bool:
    """Whether a gang of the batch may get another item, at once or after a backoff."""
    return bool(tx.execute(_ANY_LEFT, {"b": batch_id, "served": sorted(BATCH_SERVED)}).scalar_one_or_none())


# ----------------------------------------------------------------------------------------------------------- end, stop

_END_QUEUED = {
    move: text(f"""
WITH due AS MATERIALIZED (
  SELECT id FROM request WHERE batch_id = :b AND state = 'queued' ORDER BY due_at, line LIMIT :n FOR UPDATE SKIP LOCKED
), moved AS (
  UPDATE request r SET state = '{REQUEST_MOVES[move].target}', reason_code = :code, reason = :why,
         finished_at = clock_timestamp(), next_check_at = NULL, version = version + 1
  FROM due WHERE r.id = due.id AND r.state = ANY(:guard) RETURNING r.*
), logged AS (
  INSERT INTO event (subject, seq, move, data) SELECT id, version, '{move}', {FOLD} FROM moved
){outbox.REQUEST_MOVED}, stored AS (
  INSERT INTO result (request_id, outcome, error, digest) SELECT id, state, CAST(:error AS jsonb), '' FROM moved
), used AS (
  INSERT INTO usage (request_id, tenant, pool_id, attempts, ranks, run_s, gpu_seconds)
  SELECT id, tenant, pool_id, attempts, 0, 0, 0 FROM moved
), tallied AS (
  INSERT INTO batch_tally (batch_id, state, items, run_s, gpu_seconds)
  SELECT :b, state, count(*), 0, 0 FROM moved GROUP BY state
)
SELECT count(*) FROM moved
""")
    for move in ("cancel", "expire", "fail")
}
_ASK_LEASED = text(f"""
WITH due AS MATERIALIZED (
  SELECT id FROM request WHERE batch_id = :b AND gang_id IS NOT NULL AND state = ANY(:guard) FOR UPDATE SKIP LOCKED
), moved AS (
  UPDATE request r SET state = 'canceling', version = version + 1,
         next_check_at = clock_timestamp() + interval '20 seconds'
  FROM due WHERE r.id = due.id AND r.state = ANY(:guard) RETURNING r.*
), logged AS (
  INSERT INTO event (subject, seq, move, data) SELECT id, version, 'ask_cancel', {FOLD} FROM moved
)
SELECT * FROM moved
""")


def end_queued(tx: Tx, batch: Record, move: str, *, code: str | None, why: str, error: str | None, limit: int) -> int:
    """End items that wait, by `cancel`, `expire` or `fail`; `error` is JSON. What somebody holds now comes later."""
    values = {"b": batch.id, "code": code, "why": why, "error": error, "n": limit, "guard": REQUEST_MOVES[move].guard}
    ended = int(tx.execute(_END_QUEUED[move], values).scalar_one())
    journal.items(tx, move, REQUEST_MOVES[move].target, batch, ended, code)
    return ended


def ask_leased(tx: Tx, batch_id: str) -> Sequence[Record]:
    """Ask the gangs that run items to stop them: `id` and `gang_id` of each."""
    asked = tx.execute(_ASK_LEASED, {"b": batch_id, "guard": REQUEST_MOVES["ask_cancel"].guard}).all()
    for row in asked:
        journal.request(tx, "ask_cancel", row)
    return asked


# ----------------------------------------------------------------------------------------------------------- try again

_TO_REPEAT = text("""
SELECT id, line, state FROM request
WHERE batch_id = :b AND replaced_by IS NULL AND state = ANY(:states) AND line > :after
  AND (CAST(:name AS text) IS NULL OR custom_id = :name)
ORDER BY line LIMIT :n FOR UPDATE
""")
_REPLACE = text("""
UPDATE request r SET replaced_by = n.new FROM unnest(CAST(:old AS text[]), CAST(:new AS text[])) AS n (old, new)
WHERE r.id = n.old
""")
_REPEAT = text(f"""
WITH asked AS MATERIALIZED (
  SELECT r.*, r.id AS old, r.replaced_by AS id_, p.input, p.labels, p.files
  FROM request r JOIN payload p ON p.request_id = r.id WHERE r.id = ANY(:old)
), new AS (
  INSERT INTO request {_COLUMNS}
  SELECT o.id_, o.tenant, o.template, o.template_version, o.pool_id, o.mode, o.placement, o.placement_reason,
         o.priority, o.due_at, 'queued', o.max_attempts, o.max_crashes, o.body_digest, o.output_ttl_s, o.timeout_s,
         {ITS_BATCH_LOOKS}, o.batch_id, o.line, o.custom_id, o.old
  FROM asked o RETURNING *
), {_LOGGED.replace("JOIN asked a USING (id)", "JOIN asked a ON a.id_ = n.id")}
SELECT count(*) FROM new
""")
_UNFORGIVE = text("""
UPDATE batch SET forgiven = forgiven - (
  SELECT count(*) FROM request WHERE id = ANY(:old) AND state = 'failed' AND finished_at <=
    (SELECT max(at) FROM event WHERE subject = :b AND move IN ('resume', 'reopen')))
WHERE id = :b
""")
"""A failure that is not counted any more needs no forgiving: else as many new ones would pass."""
_UNTALLY = text("""
INSERT INTO batch_tally (batch_id, state, at, items, run_s, gpu_seconds)
SELECT :b, state, to_timestamp(0), -count(*), 0, 0 FROM request WHERE id = ANY(:old) GROUP BY state
""")


def repeat(tx: Tx, batch: Record, *, custom_id: str | None = None, limit: int = 2000) -> int:
    """A new request for every item that is over without success, or for the one of that name. Returns how many.

    The caller holds the batch's row. What ran before stays on record; GPU-seconds stay counted.
    """
    done, after = 0, 0
    while True:
        values = {"b": batch.id, "states": list(UNDONE), "after": after, "name": custom_id, "n": limit}
        rows = tx.execute(_TO_REPEAT, values).all()
        if not rows:
            journal.items(tx, "record", "queued", batch, done)
            return done
        old = [row.id for row in rows]
        tx.execute(_REPLACE, {"old": old, "new": [new_id("req") for _ in old]})
        done += int(tx.execute(_REPEAT, {"old": old}).scalar_one())
        tx.execute(_UNTALLY, {"b": batch.id, "old": old})
        tx.execute(_UNFORGIVE, {"b": batch.id, "old": old})
        after = rows[-1].line


def current(tx: Tx, batch_id: str, custom_id: str) -> str | None:
    """The ID of the current request of an item; None if there is no such item."""
    query = text("SELECT id FROM request WHERE batch_id = :b AND custom_id = :c AND replaced_by IS NULL")
    request_id: str | None = tx.execute(query, {"b": batch_id, "c": custom_id}).scalar_one_or_none()
    return request_id


# ---------------------------------------------------------------------------------------------------------------- read

_PAGE = text(
    f"{VIEW} WHERE r.id = ANY(ARRAY(SELECT i.id FROM request i WHERE i.batch_id = :b AND i.replaced_by IS NULL"
    " AND i.batch_id IS NOT NULL AND i.line > :after AND (:states = '{}' OR i.state = ANY(:states))"
    " ORDER BY i.line LIMIT :n)) ORDER BY r.line"
)
_ENDED = f"""
SELECT r.id, r.line, r.custom_id, r.state, r.reason_code, r.reason, r.attempts, p.input, p.labels, r.priority,
       r.timeout_s, r.max_attempts,
       t.value, t.error, t.metrics, u.run_s, u.gpu_seconds,
       {outputs_as_json("output o WHERE o.request_id = r.id")} AS outputs
FROM (SELECT * FROM request i WHERE i.batch_id = :b AND i.batch_id IS NOT NULL AND i.replaced_by IS NULL
        AND i.line > :after AND i.state IN (%s) ORDER BY i.line LIMIT :n) r
JOIN payload p ON p.request_id = r.id JOIN result t ON t.request_id = r.id JOIN usage u ON u.request_id = r.id
ORDER BY r.line
"""
_RESULTS, _ERRORS = (
    prepared(_ENDED % ", ".join(f"'{state}'" for state in sorted(states))) for states in (TERMINAL, UNDONE)
)
"""With the states written out: what did not succeed has an index of its own."""


def page(tx: Tx, batch_id: str, *, states: Sequence[str], after: int, limit: int) -> Sequence[Record]:
    """The current requests of items in the order of their lines, as `requests.get` reads them."""
    return tx.execute(_PAGE, {"b": batch_id, "states": list(states), "after": after, "n": limit}).all()


def results(tx: Tx, batch_id: str, *, after: int, limit: int) -> Sequence[Record]:
    """Items that are over, in the order of their lines, with what they gave."""
    return tx.execute(_RESULTS, {"b": batch_id, "after": after, "n": limit}).all()


def errors(tx: Tx, batch_id: str, *, after: int, limit: int) -> Sequence[Record]:
    """Those that did not succeed."""
    return tx.execute(_ERRORS, {"b": batch_id, "after": after, "n": limit}).all()


# --------------------------------------------------------------------------------------------------------------- gangs

_WANTS = prepared("""
SELECT b.id, b.due_at, own.gangs,
       least(b.max_parallel - own.leaving - ceil(warm.leased / p.replicas), ceil((own.leased + (SELECT count(*) FROM (
         SELECT 1 FROM request r WHERE r.batch_id = b.id AND r.state = 'queued' LIMIT 1000 * p.replicas) q))
         / p.replicas))::int AS most
FROM batch b
CROSS JOIN (SELECT coalesce((spec ->> 'replicas')::float8, 1) AS replicas FROM pool WHERE id = :p) p
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE g.state <> 'draining') AS gangs,
         count(*) FILTER (WHERE g.state = 'draining' AND l.n > 0) AS leaving,
         coalesce(sum(l.n) FILTER (WHERE g.state <> 'draining'), 0) AS leased
  FROM gang g CROSS JOIN LATERAL (SELECT count(*) AS n FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL) l
  WHERE g.batch_id = b.id AND g.state <> 'gone') own
CROSS JOIN LATERAL (
  SELECT count(*) AS leased FROM request l JOIN gang g ON g.id = l.gang_id
  WHERE b.shared AND l.batch_id = b.id AND l.gang_id IS NOT NULL AND g.mode = 'serve') warm
WHERE b.pool_id = :p AND b.next_check_at IS NOT NULL AND b.state = ANY(:served)
""")
_WITHOUT_WORK = prepared(
    "SELECT g.id FROM gang g JOIN batch b ON b.id = g.batch_id WHERE g.state NOT IN ('gone', 'draining')"
    " AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL)"
    " AND (b.state <> ALL(:served)"
    "   OR NOT EXISTS (SELECT 1 FROM request r WHERE r.batch_id = b.id AND r.state = 'queued'))"
)


_ONE_GANG = prepared("""
SELECT id FROM gang WHERE batch_id = :b AND state NOT IN ('gone', 'draining')
ORDER BY state = 'ready', planned_at DESC LIMIT 1
""")


def wants(tx: Tx, pool_id: str) -> Sequence[Record]:
    """Batches of the pool that are served: `gangs` they have, `most` they may have now.

    Gangs that leave are not theirs any more, but what these still run counts to `max_parallel`.
    """
    return tx.execute(_WANTS, {"p": pool_id, "served": sorted(BATCH_SERVED)}).all()


def one_gang(tx: Tx, batch_id: str) -> str | None:
    """The gang of a batch that is missed least: one that only starts, else the one that came last."""
    found: str | None = tx.execute(_ONE_GANG, {"b": batch_id}).scalar_one_or_none()
    return found


def gangs_without_work(tx: Tx) -> Sequence[str]:
    """Gangs of batches, starting ones too, for which nothing is left."""
    return tx.execute(_WITHOUT_WORK, {"served": sorted(BATCH_SERVED)}).scalars().all()
