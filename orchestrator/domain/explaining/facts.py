"""What was read to explain something. Seconds are ages by the database's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Self

START_PHASES = ("launch", "scheduling", "image", "start", "preflight", "setup", "warmup")
"""As a start goes through them. `launch` ends with the first word of rank 0; of pods it is told in three parts."""


@dataclass(frozen=True, kw_only=True)
class Usual:
    """Medians of what happened before, and of how much of it. None: never seen."""

    run_s: float | None = None
    runs: int = 0
    cold_s: float | None = None
    """From the launch to ready."""
    starts: int = 0
    phases: Mapping[str, float] = field(default_factory=dict)
    version: int | None = None
    """The version that it was seen of, if that is an older one."""

    @classmethod
    def of(cls, version: int, runs: Sequence[tuple[int, float]], starts: Sequence[Mapping[str, Any]]) -> Self:
        """`runs` are (version, seconds), `starts` have `version`, `cold_s` and some phases; of the newest version that
        has any, up to this one."""
        seen_runs = _newest([(of, seconds) for of, seconds in runs])
        seen_starts = _newest([(int(start["version"]), start) for start in starts])
        older = {of for of, _ in (*seen_runs, *seen_starts)} - {version}
        return cls(
            run_s=median(seconds for _, seconds in seen_runs) if seen_runs else None,
            runs=len(seen_runs),
            cold_s=median(start["cold_s"] for _, start in seen_starts) if seen_starts else None,
            starts=len(seen_starts),
            phases=_phases([start for _, start in seen_starts]),
            version=max(older) if older else None,
        )


def _newest(seen: Sequence[tuple[int, Any]]) -> list[tuple[int, Any]]:
    newest = max((version for version, _ in seen), default=0)
    return [one for one in seen if one[0] == newest]


def _phases(starts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    each = {name: [start[name] for start in starts if start.get(name) is not None] for name in START_PHASES}
    return {name: median(seconds) for name, seconds in each.items() if seconds}


@dataclass(frozen=True, kw_only=True)
class RankAt:
    """Where a rank was at the last beat."""

    rank: int
    step: int | None = None
    age_s: float | None = None
    """Since that step."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """What a gang does for a request."""

    running_s: float
    phase: str | None = None
    current: float | None = None
    total: float | None = None
    moved_s: float | None = None
    """Since the progress changed."""
    beat_s: float | None = None
    """Since the last beat of its gang."""
    ranks: Sequence[RankAt] = ()

    @property
    def fraction(self) -> float | None:
        return self.current / self.total if self.current is not None and self.total else None

    @property
    def left_s(self) -> float | None:
        """If it goes on as it went so far."""
        done = self.fraction
        return self.running_s * (1 - done) / done if done else None


@dataclass(frozen=True, kw_only=True)
class GangFacts:
    """One gang. `state` as it is stored; a ready one with a lease is `busy`."""

    id: str
    state: str
    mode: str
    world: int
    since_s: float
    """In this state."""
    launched_s: float | None = None
    """Since the backend took it."""
    incarnation: int = 0
    breaks: int = 0
    busy: bool = False
    replicas: int = 1
    """Requests that it can run at once."""
    leases: int = 0
    """Requests that it runs."""
    request: str | None = None
    """What it runs, if the reader may know."""
    for_request: str | None = None
    """Of a batch gang."""
    for_batch: str | None = None
    """Of one that drains a batch."""
    starting: str | None = None
    """The phase of the start, as rank 0 says it."""
    starting_s: float | None = None
    coming: str | None = None
    """What a gang of pods is in before that: `scheduling`, `image`, `restart`, `start`."""
    coming_s: float | None = None
    joined: int = 0
    """Ranks that said hello."""
    ready: int = 0
    """Ranks that are ready."""
    missing: Sequence[int] = ()
    """Ranks of the incarnation that did not say hello."""
    running: Running | None = None
    reason_code: str | None = None
    reason: str | None = None
    seen_reason: str | None = None
    seen_detail: str | None = None
    """What the backend says of it."""
    start_timeout_s: float | None = None

    @property
    def is_starting(self) -> bool:
        return self.state in ("planned", "launching", "loading")

    @property
    def free(self) -> int:
        """Requests that it can take, now or when it has started."""
        return self.replicas - max(self.leases, int(self.busy))

    @property
    def stage(self) -> str:
        """The phase of the start that it is in."""
        return self.starting or self.coming or ("preflight" if self.state == "loading" else "launch")

    @property
    def writes(self) -> bool:
        """Whether there may be a log: nothing of pods runs before they are `start`ed."""
        return self.coming in (None, "start")

    @property
    def staying_s(self) -> float:
        """How long it is in that phase."""
        if self.starting is not None and self.starting_s is not None:
            return self.starting_s
        if self.starting is None and self.coming_s is not None:
            return self.coming_s
        return self.since_s


@dataclass(frozen=True, kw_only=True)
class PoolFacts:
    template: str
    version: int
    current: bool
    min_gangs: int
    max_gangs: int
    max_batch_gangs: int
    queued: int
    """Warm requests that wait."""
    ending: int = 0
    """Serve gangs that are going and still hold their place."""
    batch_gangs: int = 0
    """Whose processes may run."""
    failed_starts: int = 0
    held_s: float | None = None
    """How long no gang will be launched."""
    held_reason: str | None = None
    gangs: Sequence[GangFacts] = ()

    def serving(self) -> list[GangFacts]:
        """Serve gangs that live or will."""
        return [gang for gang in self.gangs if gang.mode == "serve" and gang.state not in ("draining", "gone")]

    @property
    def room(self) -> int:
        """Serve gangs that may still be launched."""
        return max(0, self.max_gangs - len(self.serving()) - self.ending)


@dataclass(frozen=True, kw_only=True)
class RequestFacts:
    id: str
    state: str
    mode: str
    placement: str
    placement_reason: str
    attempts: int
    max_attempts: int
    waited_s: float
    """Since it was recorded; until it was assigned, or ended."""
    ahead: int = 0
    ahead_ids: Sequence[str] = ()
    """Of the reader's own, the first few."""
    backoff_s: float | None = None
    """Until it may be tried again."""
    start_within_s: float | None = None
    """Until it expires."""
    timeout_s: float = 0.0
    no_progress_s: float | None = None
    gang: GangFacts | None = None
    """That has its lease."""
    error: Mapping[str, Any] | None = None
    losses: Sequence[Mapping[str, Any]] = ()
    run_s: float | None = None
    cold_start_s: float = 0.0
    batch: str | None = None
    """Of an item."""
    batch_state: str | None = None
    failed_start: str | None = None
    """Of one that no gang ever ran: the last gang that was to."""
