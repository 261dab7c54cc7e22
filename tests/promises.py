"""Promises of docs and design that every database must keep after every test: each query lists what breaks one."""

from __future__ import annotations

from sqlalchemy import text

from orchestrator.store.database import Database, Tx

BROKEN = {
    "I2 a terminal request has one terminal event, and it is the last": """
        SELECT r.id FROM request r WHERE (r.finished_at IS NOT NULL) <> (SELECT count(*) = 1 FROM event e
          WHERE e.subject = r.id AND e.move IN ('succeed', 'fail', 'cancel', 'end_cancel', 'expire')
            AND e.seq = r.version)""",
    "I3 every open request has a clock": """
        SELECT id FROM request WHERE (finished_at IS NULL) <> (next_check_at IS NOT NULL)""",
    "I4 a leased request has exactly one live attempt, any other none": """
        SELECT r.id FROM request r
        WHERE (SELECT count(*) FROM attempt a WHERE a.request_id = r.id AND a.ended_at IS NULL)
          <> CASE WHEN r.state IN ('assigned', 'running', 'canceling') THEN 1 ELSE 0 END""",
    "I4 attempts are numbered from one without a gap": """
        SELECT r.id FROM request r WHERE r.attempts <> (SELECT count(*) FROM attempt a WHERE a.request_id = r.id)
          OR r.attempts <> (SELECT coalesce(max(number), 0) FROM attempt a WHERE a.request_id = r.id)""",
    "I7 one result and one usage row when terminal, none before": """
        SELECT r.id FROM request r
        WHERE (SELECT count(*) FROM result t WHERE t.request_id = r.id) <> (r.finished_at IS NOT NULL)::int
           OR (SELECT count(*) FROM usage u WHERE u.request_id = r.id) <> (r.finished_at IS NOT NULL)::int""",
    "I7 the result says what the request says": """
        SELECT r.id FROM request r JOIN result t ON t.request_id = r.id WHERE t.outcome <> r.state""",
    "I8 attempts are bounded": "SELECT id FROM request WHERE attempts > max_attempts OR crashes > max_crashes",
    "I10 a live lease is of the current incarnation of a gang that is not gone": """
        SELECT a.id FROM attempt a JOIN gang g ON g.id = a.gang_id
        WHERE a.ended_at IS NULL AND (g.state NOT IN ('ready', 'draining') OR a.incarnation <> g.incarnation)""",
    "I15 a request is what its last event says": """
        SELECT r.id FROM request r JOIN event e ON e.subject = r.id AND e.seq = r.version
        WHERE (e.data - ARRAY['attempt', 'placement', 'why']) IS DISTINCT FROM jsonb_build_object('state', r.state,
          'reason_code', r.reason_code, 'reason', r.reason, 'gang', r.gang_id, 'attempts', r.attempts,
          'crashes', r.crashes)""",
    "I15 events are numbered from one without a gap up to the version": """
        SELECT s.id FROM (SELECT id, version FROM request UNION ALL SELECT id, version FROM gang) s
        WHERE s.version <> (SELECT count(*) FROM event e WHERE e.subject = s.id)
           OR s.version <> (SELECT max(seq) FROM event e WHERE e.subject = s.id)""",
    "a gang is what its last event says": """
        SELECT g.id FROM gang g JOIN event e ON e.subject = g.id AND e.seq = g.version
        WHERE e.data ->> 'state' <> g.state OR (e.data ->> 'incarnation')::int <> g.incarnation""",
}


def broken(tx: Tx) -> dict[str, list[str]]:
    """Each promise that does not hold, with the rows that break it."""
    found = {promise: list(tx.execute(text(query)).scalars()) for promise, query in BROKEN.items()}
    return {promise: rows for promise, rows in found.items() if rows}


def check(database: Database) -> None:
    """Fails the test that left a promise broken."""
    assert database.transact(broken) == {}
