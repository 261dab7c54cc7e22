"""Why a request has not started, in a sentence."""

from __future__ import annotations

from orchestrator.store import pools, requests
from orchestrator.store.database import Record, Tx


def explain(tx: Tx, row: Record) -> str | None:
    """None unless it is queued."""
    if row.state != "queued":
        return None
    pool = pools.get(tx, row.pool_id)
    starting = pools.starting_gang(tx, row.pool_id, row.id if row.placement == "batch" else None)
    ahead = requests.position(tx, row)
    parts = [f"position {ahead + 1}"]
    if row.reason:
        parts.append(f"tried {row.attempts} of {row.max_attempts} times, last: {row.reason}")
    if starting is not None:
        parts.append(f"cold start: gang {starting.id} {starting.state} for {float(starting.for_s):.0f} s")
    elif pool.held:
        parts.append(f"no new gang for now, the last one failed to start: {pool.held_reason}")
    elif row.placement == "warm":
        parts.append(_gangs(pool))
    return "; ".join(parts)


def _gangs(pool: Record) -> str:
    busy, idle = pool.gangs.get("busy", 0), pool.gangs.get("idle", 0)
    if not busy and not idle:
        return "no warm gang yet" + (f"; {pool.ending} still ending" if pool.ending else "")
    return f"{busy} of {pool.max_gangs} gangs busy" if not idle else f"{idle} idle, about to take it"
