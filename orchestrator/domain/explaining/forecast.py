"""When a waiting request will start, and what that guess rests on."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.domain.durations import duration
from orchestrator.domain.explaining.facts import GangFacts, PoolFacts, Usual


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """`seconds` until it starts; None if nothing was seen to guess from. `basis` says from what."""

    seconds: float | None
    basis: str


def until_start(pool: PoolFacts, usual: Usual, ahead: int) -> Forecast:
    """For a request on the warm path with `ahead` before it: every gang takes the next one when it is free."""
    free_at = _free_at(pool.serving(), usual)
    if pool.held_s is None and usual.cold_s is not None:
        free_at += [usual.cold_s] * min(pool.room, ahead + 1)
    return Forecast(seconds=_turn_s(free_at, ahead, usual.run_s), basis=basis(usual))


def of_own_gang(gang: GangFacts | None, usual: Usual) -> Forecast:
    """For a request on the batch path: its gang's start, or a whole start to come."""
    seconds = usual.cold_s if gang is None else free_in_s(gang, usual)
    return Forecast(seconds=seconds, basis=basis(usual))


def among(gangs: Sequence[GangFacts], usual: Usual, ahead: int) -> Forecast:
    """For an item of a batch with `ahead` before it: the batch's gangs take one after the other."""
    return Forecast(seconds=_turn_s(_free_at(gangs, usual), ahead, usual.run_s), basis=basis(usual))


def _free_at(gangs: Sequence[GangFacts], usual: Usual) -> list[float]:
    return [at for gang in gangs for at in _of_each_replica(gang, usual)]


def _of_each_replica(gang: GangFacts, usual: Usual) -> list[float]:
    """Those that run something are taken to be as far as the one that is known."""
    at = free_in_s(gang, usual)
    if gang.is_starting:
        return [] if at is None else [at] * gang.replicas
    return [0.0] * gang.free + ([] if at is None else [at] * (gang.replicas - gang.free))


def free_in_s(gang: GangFacts, usual: Usual) -> float | None:
    """When the gang can take the next request."""
    if gang.is_starting:
        if usual.cold_s is None:
            return None
        return max(0.0, usual.cold_s - (gang.launched_s or 0.0))
    if not gang.busy:
        return 0.0
    if gang.running is not None and gang.running.left_s is not None:
        return gang.running.left_s
    if usual.run_s is None:
        return None
    return max(0.0, usual.run_s - (gang.running.running_s if gang.running else 0.0))


def basis(usual: Usual) -> str:
    """`runs take 41.0 s (median of the last 20), starts 3m10s (median of the last 5)`."""
    known = []
    if usual.run_s is not None:
        known.append(f"a run takes {duration(usual.run_s)} ({_seen(usual.runs)})")
    if usual.cold_s is not None:
        known.append(f"a start {duration(usual.cold_s)} ({_seen(usual.starts)})")
    if not known:
        return "no run and no start of this template was seen yet"
    return ", ".join(known) + (f", as seen of version {usual.version}" if usual.version is not None else "")


def _seen(times: int) -> str:
    return f"median of the last {times}" if times > 1 else "seen once"


def _turn_s(free_at: Sequence[float], ahead: int, run_s: float | None) -> float | None:
    """When the turn comes of the one with `ahead` before it."""
    if run_s is None:  # a second turn would need to know how long the first one takes
        return sorted(free_at)[ahead] if ahead < len(free_at) else None
    if not free_at:
        return None
    turns = [*free_at]
    heapq.heapify(turns)
    for _ in range(ahead):
        heapq.heapreplace(turns, turns[0] + run_s)
    return turns[0]
