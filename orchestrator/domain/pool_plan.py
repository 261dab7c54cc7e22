"""How many gangs a pool should have, and which to let go. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.domain.recycling import Worn
from orchestrator.domain.states import Reason


@dataclass(frozen=True, kw_only=True)
class GangView:
    """One live serve gang of the pool."""

    id: str
    starting: bool
    busy: bool
    idle_for: timedelta
    worn: Worn | None = None
    leases: int = 0
    """Requests that it runs: of several replicas some may be free while it is busy."""


@dataclass(frozen=True, kw_only=True)
class PoolView:
    """One pool as the plan sees it."""

    queued: int
    """Warm requests that wait and may start now."""
    min_gangs: int
    max_gangs: int
    idle_timeout: timedelta
    current: bool
    """False once a newer template version exists: no new gangs but for what still waits, idle ones go."""
    held: bool
    """True while a series of failed starts is waited out."""
    gangs: Sequence[GangView]
    ending: int = 0
    """Gangs that are not wanted any more, but of which processes may still run: they hold a place."""
    replicas: int = 1
    """Requests that a gang runs at once."""

    def gangs_for(self, requests: int) -> int:
        """How many gangs run so many requests."""
        return -(-requests // self.replicas)

    def free_soon(self, gang: GangView) -> int:
        """Requests that it can take, now or when it has started."""
        if gang.starting:
            return self.replicas
        return self.replicas - max(gang.leases, int(gang.busy))


@dataclass(frozen=True, kw_only=True)
class PoolPlan:
    launch: int = 0
    drain: tuple[str, ...] = ()
    recycle: tuple[str, ...] = ()
    """Worn gangs to drain: they finish what they run."""


def plan_pool(view: PoolView) -> PoolPlan:
    """Launch for what waits and for the minimum, drain what idled too long; never both."""
    if any(gang.worn for gang in view.gangs):
        return _renew(view)
    launch = _missing(view)
    if launch:
        return PoolPlan(launch=0 if view.held else launch)
    return PoolPlan(drain=_superfluous(view))


def _renew(view: PoolView) -> PoolPlan:
    """Another gang first, one above the maximum if need be; a worn one goes when it is not needed any more."""
    floor = view.min_gangs if view.current else 0
    running = sum(view.replicas - view.free_soon(gang) for gang in view.gangs)
    needed = min(max(floor, view.gangs_for(view.queued + running)), max(1, view.max_gangs))
    fresh = [gang for gang in view.gangs if not gang.worn]
    old = sorted((gang for gang in view.gangs if gang.worn and not gang.starting), key=lambda gang: gang.busy)
    ready = [gang for gang in view.gangs if not gang.starting]
    room = max(1, view.max_gangs) + 1 - len(view.gangs) - view.ending
    spare = max(0, len(ready) - needed)
    far = [gang.id for gang in old[spare:] if gang.worn and gang.worn.far]
    return PoolPlan(
        launch=0 if view.held else max(0, min(needed - len(fresh), room)),
        recycle=(*(gang.id for gang in old[:spare]), *far),
    )


def _missing(view: PoolView) -> int:
    """Gangs to launch: for the waiting requests that no idle or starting gang will take, up to the maximum,
    those that are still ending counted in."""
    ready_soon = sum(view.free_soon(gang) for gang in view.gangs)
    wanted = len(view.gangs) + view.gangs_for(max(0, view.queued - ready_soon))
    floor = view.min_gangs if view.current else 0
    ceiling = view.max_gangs if view.current else max(1, view.max_gangs)
    return max(0, min(max(wanted, floor), ceiling - view.ending) - len(view.gangs))


def _superfluous(view: PoolView) -> tuple[str, ...]:
    """Idle gangs to drain, longest idle first: above the maximum at once, above the minimum after the timeout."""
    idle = sorted((g for g in view.gangs if not g.busy and not g.starting), key=lambda g: g.idle_for, reverse=True)
    spare = idle[view.gangs_for(view.queued) :]
    floor = view.min_gangs if view.current else 0
    may_go = max(0, len(view.gangs) - floor)
    must_go = max(0, len(view.gangs) - view.max_gangs)
    patience = view.idle_timeout if view.current else timedelta()
    leaving = [g.id for n, g in enumerate(spare) if n < must_go or g.idle_for >= patience]
    return tuple(leaving[:may_go])


def hold_after(failed_starts: int) -> timedelta:
    """How long a pool launches nothing after so many failed starts in a row: 1 s doubling to five minutes."""
    return timedelta(seconds=min(300.0, 2.0 ** max(0, failed_starts - 1)))


def gives_up(failed_starts: int, reason: Reason) -> bool:
    """Whether what waits should fail with the cause: what the handler did is tried twice, all else three times."""
    return failed_starts >= (2 if reason in (Reason.SETUP_FAILED, Reason.WARMUP_FAILED) else 3)


MAX_BREAKS = 3
"""Incarnations that a gang may lose in a row without becoming ready; then it is ended."""
