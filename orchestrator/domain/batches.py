"""What becomes of a batch: when it ends and how, when too much failed, and who gets the next batch gang. Pure."""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.states import BatchOutcome, BatchReason, BatchState

MAX_FAILED = re.compile(r"(\d{1,9})(%?)")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The items of a batch by where they stand."""

    items: int
    leased: int
    """Those on a gang."""
    succeeded: int
    failed: int
    canceled: int
    expired: int
    refused: int = 0
    """Lines that never became items."""

    @property
    def over(self) -> int:
        return self.succeeded + self.failed + self.canceled + self.expired

    @property
    def queued(self) -> int:
        return self.items - self.leased - self.over


@dataclass(frozen=True, kw_only=True)
class BatchView:
    """A batch that is not over, as its decision sees it."""

    state: BatchState
    ending: BatchState | None
    counts: Counts
    max_failed: str | None
    stops: bool
    """What happens when more failed than may: it stops, else it is paused."""
    forgiven: int
    """Failures from before it was resumed: they do not count again."""
    too_late: bool


@dataclass(frozen=True, kw_only=True)
class End:
    """Nothing more is to start; `ending` comes when all items are over."""

    ending: BatchState
    reason: BatchReason | None
    why: str | None


@dataclass(frozen=True, kw_only=True)
class Pause:
    why: str


@dataclass(frozen=True, kw_only=True)
class Close:
    """All items are over."""

    state: BatchState


Step = End | Pause | Close


def decide(view: BatchView) -> Step | None:
    """What to do about it now; None: let it go on."""
    if view.state is BatchState.FINALIZING:
        over = view.counts.over == view.counts.items
        return Close(state=view.ending or BatchState.COMPLETED) if over else None
    why = _too_many_failed(view)
    if why is not None and view.stops and view.state is not BatchState.PAUSED:  # also if the last ones were too many
        return End(ending=BatchState.FAILED, reason=BatchReason.MAX_FAILED, why=why)
    if view.state is not BatchState.VALIDATING and view.counts.over == view.counts.items:
        return End(ending=BatchState.COMPLETED, reason=None, why=None)
    if view.too_late:
        return End(ending=BatchState.EXPIRED, reason=BatchReason.DEADLINE, why="its deadline passed")
    return Pause(why=why) if why is not None and view.state is not BatchState.PAUSED else None


def _too_many_failed(view: BatchView) -> str | None:
    if view.max_failed is None:
        return None
    most, failed = most_failed(view.max_failed, view.counts.items), view.counts.failed - view.forgiven
    if failed <= most:
        return None
    return f"{failed} items failed, and at most {most} may (max_failed {view.max_failed})"


def most_failed(said: str, items: int) -> int:
    """How many items may fail: a number, or a share of all as `10%`."""
    match = MAX_FAILED.fullmatch(said)
    if match is None:
        raise ValueError(f"{said!r} is neither a number nor a percentage")
    number = int(match[1])
    return items * number // 100 if match[2] else number


def outcome(counts: Counts) -> BatchOutcome:
    """A line that was refused did not succeed."""
    if counts.succeeded == 0:
        return BatchOutcome.NONE_SUCCEEDED
    whole = counts.succeeded == counts.items and not counts.refused
    return BatchOutcome.ALL_SUCCEEDED if whole else BatchOutcome.PARTIAL


def eta_s(counts: Counts, recent: int, seconds: float) -> float | None:
    """Seconds until all items are over, if they go on ending like the `recent` ones of the last so many seconds."""
    left = counts.items - counts.over
    if not left or not recent or seconds <= 0:
        return None
    return left * seconds / recent


@dataclass(frozen=True, kw_only=True)
class Want:
    """Who wants batch gangs of a pool: a batch, or a request alone, which wants one."""

    id: str
    due_at: datetime
    gangs: int
    """That it has."""
    most: int
    """That it may have; for a batch also bounded by what is left of it."""


def share(room: int, wants: Sequence[Want]) -> list[str]:
    """Who gets the next gangs, an ID for each: who has fewest first, among equals who is due first."""
    heap = [(want.gangs, want.due_at, want.id, want.most) for want in wants if want.gangs < want.most]
    heapq.heapify(heap)
    served: list[str] = []
    while heap and len(served) < room:
        gangs, due_at, key, most = heapq.heappop(heap)
        served.append(key)
        if gangs + 1 < most:
            heapq.heappush(heap, (gangs + 1, due_at, key, most))
    return served


def give_way(wants: Sequence[Want], coming: int) -> list[str]:
    """Where there is no room: whose gangs are to go, an ID for each, so that whoever has none gets one.

    `coming`: places that are free or about to be. Who has most gives, and never the last one.
    """
    gangs = {want.id: want.gangs for want in wants if want.gangs > 1}
    without = sum(1 for want in wants if not want.gangs and want.most > 0)
    giving: list[str] = []
    while len(giving) < without - coming and gangs:
        richest = max(gangs, key=lambda key: (gangs[key], key))
        giving.append(richest)
        gangs[richest] -= 1
        if gangs[richest] == 1:
            del gangs[richest]
    return giving
