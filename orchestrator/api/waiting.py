"""Why a request has not started, in a sentence."""

from __future__ import annotations

from textwrap import shorten

from orchestrator.domain.durations import whole
from orchestrator.domain.placement import PoolLoad, predicted_wait
from orchestrator.store import arrivals, loads, pools, requests
from orchestrator.store.database import Record, Tx
from orchestrator.store.orders import Accepted

_WORD = 240
"""Characters of what a place says."""


def explain(tx: Tx, row: Record) -> str | None:
    """None unless it is queued."""
    if row.state != "queued":
        return None
    pool = pools.get(tx, row.pool_id)
    own = (row.batch_id or row.id) if row.placement == "batch" else None
    starting = pools.starting_gang(tx, row.pool_id, own)
    ahead = requests.position(tx, row)
    load = loads.with_history(tx, pool, _load(pool, ahead))
    where = f" in {row.batch_id}" if row.batch_id else ""
    parts = [f"position {ahead + 1}{where}" + _eta(row, load, starting)]
    if row.reason:
        parts.append(f"tried {row.attempts} of {row.max_attempts} times, last: {row.reason}")
    if starting is not None:
        parts.append(_cold_start(starting, load.cold_s))
    elif pool.held:
        parts.append(f"no new gang for now, the last one failed to start: {pool.held_reason}")
    elif own is None:
        parts.append(_gangs(pool.gangs.get("busy", 0), pool.gangs.get("idle", 0), pool.max_gangs, pool.ending))
    else:
        parts += _batch_gangs(pools.batch_gangs(tx, row.pool_id, own), pool.spec["batch"]["max_gangs"])
    return "; ".join(parts)


def _load(pool: Record, ahead: int) -> PoolLoad:
    """The pool as a request sees it that has so many before it."""
    starting = sum(pool.gangs.get(state, 0) for state in ("planned", "launching", "loading"))
    return PoolLoad(
        idle=pool.gangs.get("idle", 0),
        busy=pool.gangs.get("busy", 0),
        starting=starting,
        queued=ahead,
        max_gangs=pool.max_gangs,
        run_s=None,
        cold_s=None,
    )


def _eta(row: Record, load: PoolLoad, starting: Record | None) -> str:
    """Of a warm one that waits for gangs that run; `muster explain` looks closer."""
    if row.placement != "warm" or starting is not None or load.run_s is None or not load.busy:
        return ""
    return f", eta {whole(predicted_wait(load))}"


def _cold_start(gang: Record, usual_s: float | None) -> str:
    usual = f" of usually {whole(usual_s)}" if usual_s is not None else ""
    return f"cold start: {_stage(gang)}, {whole(float(gang.for_s))}{usual}; gang {gang.id}{_obstacle(gang)}"


def _stage(gang: Record) -> str:
    if gang.state != "launching":
        return str(gang.starting or gang.state)
    way = arrivals.coming(gang)
    return way.name if way else "launch"


def _obstacle(gang: Record) -> str:
    """The place's own word on it, in one line of bounded length."""
    if gang.state != "launching" or not gang.seen_detail:
        return ""
    return f": {shorten(gang.seen_detail, _WORD, placeholder='…').rstrip('.')}"


def foresee(accepted: Accepted) -> str | None:
    """The same of a request that was just accepted, from what was seen then."""
    row, load = accepted.row, accepted.load
    if row is None or load is None:
        return None
    if row.placement == "batch":
        return "cold start: a gang of its own is about to be launched"
    parts = [f"position {load.queued + 1}"] if row.priority == 0 or load.queued == 0 else []
    parts.append("cold start: a gang is starting" if load.starting else _gangs(load.busy, load.idle, load.max_gangs))
    return "; ".join(parts)


def _batch_gangs(held: Record, most: int) -> list[str]:
    """Nothing where a gang of its own is at work: an item of a batch is about to get its turn."""
    if held.own:
        return []
    if held.held >= most:
        return [f"others have all {most} gangs that batches of this template may have" if most > 1 else _ONE]
    return ["a gang is about to be launched"]


_ONE = "another has the one gang that batches of this template may have"


def _gangs(busy: int, idle: int, most: int, ending: int = 0) -> str:
    if not busy and not idle:
        return "no warm gang yet" + (f"; {ending} still ending" if ending else "")
    return f"{busy} of {most} gangs busy" if not idle else f"{idle} idle, about to take it"
