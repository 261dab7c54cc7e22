"""Schedules as people look at them: each with its last tick, and ticks with what became of their runs. Read-only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared

_RUN = """
LEFT JOIN request r ON r.id = f.request_id
LEFT JOIN batch b ON b.id = f.batch_id
"""
_LIST = prepared(f"""
SELECT s.id, s.name, s.version, s.paused_at, s.ended_at, v.policy, v.runs, f.tick, f.state AS fire_state,
       f.reason_code, f.reason, f.triggered, f.request_id, f.batch_id,
       coalesce(r.state, b.state) AS run_state, b.outcome AS run_outcome
FROM schedule s
JOIN schedule_version v ON (v.schedule_id, v.version) = (s.id, s.version)
LEFT JOIN LATERAL
  (SELECT * FROM schedule_fire x WHERE x.schedule_id = s.id ORDER BY x.tick DESC LIMIT 1) f ON true
{_RUN} WHERE s.tenant = :t ORDER BY s.name
""")
_FIRES = prepared(f"""
SELECT f.*, coalesce(r.state, b.state) AS run_state, b.outcome AS run_outcome,
       coalesce(r.started_at, b.started_at) AS run_started_at, coalesce(r.finished_at, b.finished_at) AS run_finished_at
FROM (SELECT * FROM schedule_fire WHERE schedule_id = :id
        AND tick < coalesce(CAST(:before AS timestamptz), 'infinity') ORDER BY tick DESC LIMIT :n) f
{_RUN} ORDER BY f.tick DESC
""")


def schedules(tx: Tx, tenant: str) -> Sequence[Record]:
    """All of the tenant by name, each with its newest tick and the state of what that started."""
    return tx.execute(_LIST, {"t": tenant}).all()


def fires(tx: Tx, schedule_id: str, *, before: datetime | None, limit: int) -> Sequence[Record]:
    """Newest first, before that tick, with the state of what each started."""
    return tx.execute(_FIRES, {"id": schedule_id, "before": before, "n": limit}).all()
