"""Looks at schedules: writes down ticks that are due, then starts a run for each or says why there is none.

Whoever holds a schedule's row decides; the others pass it by. The clock is the database's alone.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator.domain.schedules import FireState, Policy, Run, Skip, SkipReason, Wait, decide
from orchestrator.errors import Conflict, Invalid, NotFound, TooMany
from orchestrator.loops.desk import Desk, Report
from orchestrator.store import fires, schedules
from orchestrator.store.database import Record, Tx
from orchestrator.store.fires import Started

log = logging.getLogger("muster.ticks")

LOOK = timedelta(seconds=1)
"""Between two looks at whether the run is over that a tick waits for."""
RETRY = timedelta(seconds=5)
"""Until a run is tried again for which there was no room."""
AT_LEAST = timedelta(hours=1)
"""Between two looks at any schedule: what zones do may change with an update of the machine."""
BROKEN = timedelta(minutes=1)
MANY = 100
"""Ticks that are decided in one transaction, if none of them runs."""

Clock = Callable[[Tx], datetime]
Start = Callable[[Tx, Record, Record], Started]
"""Records the run of a tick (schedule, fire) in the transaction. Raises what a submit would."""


@dataclass(kw_only=True)
class _Look:
    """What one transaction did. `again`: at once."""

    again: bool = False
    ran: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    canceled: list[Record] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    """Ticks by what became of them: `ran`, or why they were skipped."""

    def skip(self, row: Record, fire: Record, reason: SkipReason) -> None:
        self.skipped.append(f"{row.name} {fire.tick.isoformat()} {reason}")
        self.outcomes[reason] += 1


def run_once(
    desk: Desk, start: Start, clock: Clock = schedules.now, fired: Callable[[str, int], None] = lambda *_: None
) -> Report:
    """`start` records the run of a tick; `fired` hears what became of so many, after the commit.

    In rounds of a transaction for each schedule: one with much to make up for holds up no other one.
    """
    report = Report()

    def looked(schedule_id: str) -> bool:
        try:
            return _looked(desk, schedule_id, start, clock, report, fired)
        except (Invalid, NotFound) as error:  # a zone that this machine does not know, say: the others go on
            said = {"action": "schedule_broken", "schedule": schedule_id}
            log.warning("schedule %s: %s", schedule_id, error.message, extra=said)
            desk.database.transact(lambda tx: schedules.wind(tx, schedule_id, clock(tx) + BROKEN))
            return False

    again = True
    while again:
        looks = [looked(one) for one in desk.database.transact(lambda tx: schedules.due(tx, clock(tx)))]
        again = any(looks)
    return report


def _looked(
    desk: Desk, schedule_id: str, start: Start, clock: Clock, report: Report, fired: Callable[[str, int], None]
) -> bool:
    """Whether to look again at once."""
    look = desk.database.transact(lambda tx: _look(tx, schedule_id, start, clock))
    desk.wake(gangs=[row.gang_id for row in look.canceled if row.gang_id], requests=[row.id for row in look.canceled])
    for outcome, count in look.outcomes.items():
        fired(outcome, count)
    report.note("ran", *look.ran)
    report.note("skipped", *look.skipped)
    return look.again


def _look(tx: Tx, schedule_id: str, start: Start, clock: Clock) -> _Look:
    """One transaction: the ticks up to now get their rows, and at most one of them its run."""
    row = schedules.claim(tx, schedule_id)
    if row is None:
        return _Look()
    now = clock(tx)
    if not fires.mint(tx, row, now):
        return _Look(again=True)
    look = _Look()
    if row.paused_at is None:
        if late := fires.skip_misfires(tx, row.id, now):
            look.skipped.append(f"{row.name}: {late} misfired")
            look.outcomes[SkipReason.MISFIRE] += late
        if (wait := _decide(tx, row, start, now, look)) is not None:
            schedules.wind(tx, row.id, now + wait)
            return look
    _wind(tx, row, now)
    return look


def _decide(tx: Tx, row: Record, start: Start, now: datetime, look: _Look) -> timedelta | None:
    """Decide ticks in their order until one runs. Returns how long to wait if one cannot be decided."""
    for _ in range(MANY):
        fire = fires.oldest_due(tx, row.id, now)
        if fire is None:
            return None
        policy = Policy.model_validate(fire.policy)
        match decide(policy, fires.open_runs(tx, row.id)):
            case Wait():
                if full := fires.queue(tx, row.id, policy.max_queued, now):
                    look.skipped.append(f"{row.name}: {full} found no place")
                    look.outcomes[SkipReason.QUEUE_FULL] += full
                return LOOK
            case Skip() as skip:
                fires.skip(tx, fire, skip.reason, skip.why, now)
                look.skip(row, fire, skip.reason)
            case Run(cancel=cancel):
                return _run(tx, row, fire, cancel, start, now, look)
    look.again = True
    return timedelta()


def _run(
    tx: Tx, row: Record, fire: Record, cancel: tuple[str, ...], start: Start, now: datetime, look: _Look
) -> timedelta | None:
    """Start it, in a part of the transaction that leaves nothing behind if it is refused."""
    try:
        with tx.begin_nested():
            started = start(tx, row, fire)
            fires.ran(tx, fire, started, now)
    except TooMany as error:
        if now <= fire.due_at + Policy.model_validate(fire.policy).grace:
            return RETRY
        fires.skip(tx, fire, SkipReason.TOO_LATE, error.message, now)
        look.skip(row, fire, SkipReason.TOO_LATE)
    except (Invalid, NotFound, Conflict) as error:
        fires.skip(tx, fire, SkipReason.REFUSED, f"{error.code}: {error.message}", now)
        look.skip(row, fire, SkipReason.REFUSED)
    else:
        look.ran.append(f"{row.name} {started.request or started.batch}")
        look.outcomes[FireState.RAN] += 1
        why = f"replaced by the tick {fire.tick.isoformat()} of schedule {row.name}"
        look.canceled += [one for run in cancel if (one := fires.cancel_run(tx, row.tenant, run, why))]
    look.again = True
    return timedelta()


def _wind(tx: Tx, row: Record, now: datetime) -> None:
    """Look again when a tick is due; never again where there will be none."""
    policy = Policy.model_validate(row.policy)
    upcoming = policy.next(now, 1)
    waiting = fires.next_due(tx, row.id)
    if not upcoming and waiting is None:
        schedules.end(tx, row.id, now)
        return
    held = row.paused_at is not None
    moments = [now + AT_LEAST, *upcoming, *([waiting] if waiting is not None and not held else [])]
    schedules.wind(tx, row.id, min(moments))
