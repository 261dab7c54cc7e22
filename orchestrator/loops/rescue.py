"""Ends what outlived its clock: silent gangs, starts that never end, drains that hang, requests past their deadline.

All by the database's clock. After this process started, or after the database came back, silence counts only from then:
gangs could not beat while nobody listened.
"""

from __future__ import annotations

import time
from datetime import timedelta

from orchestrator.domain.states import GangState, Reason, RequestState
from orchestrator.errors import Unavailable
from orchestrator.loops.desk import Desk, Report
from orchestrator.store import gangs, requests
from orchestrator.store.database import Record, Tx
from orchestrator.store.gangs import Ended

LONGEST_GOODBYE = timedelta(seconds=30)
"""How long a drained gang without a lease may take to leave by itself."""


UNLAUNCHED = timedelta(minutes=2)
"""How much longer than a start may take a gang may stay planned: replicas that could launch it may be away."""


class Rescue:
    """Keeps only the moment since when it has been listening."""

    def __init__(self) -> None:
        self._listening_since: float | None = None

    def run_once(self, desk: Desk) -> Report:
        report = Report()
        try:
            self._rescue(desk, report)
        except Unavailable:
            self._listening_since = None
            raise
        return report

    def _rescue(self, desk: Desk, report: Report) -> None:
        if self._listening_since is None:
            self._listening_since = time.monotonic()
        listening = timedelta(seconds=time.monotonic() - self._listening_since)
        for ended in desk.database.transact(lambda tx: _end_silent(tx, desk, listening)):
            report.note("ended", ended.gang)
            desk.settle(ended)
        for ended in desk.database.transact(lambda tx: _end_never_launched(tx, listening)):
            report.note("ended", ended.gang)
            desk.settle(ended)
        over = desk.database.transact(_end_overdue)
        report.note("expired", *over)
        desk.wake(requests=over)


def _end_silent(tx: Tx, desk: Desk, listening: timedelta) -> list[Ended]:
    return [
        ended for gang in gangs.overdue(tx) if (ended := _judge(tx, gang, desk.settings.lease, listening)) is not None
    ]


def _end_never_launched(tx: Tx, listening: timedelta) -> list[Ended]:
    """Those that no place took. Whoever refuses ends them earlier, and knows why."""
    if listening <= UNLAUNCHED:
        return []
    return [
        ended
        for gang in gangs.never_launched(tx, UNLAUNCHED)
        if (ended := gangs.end(tx, gang.id, Reason.START_TIMEOUT, f"not launched within {float(gang.planned_s):.0f} s"))
    ]


def _judge(tx: Tx, gang: Record, lease: timedelta, listening: timedelta) -> Ended | None:
    verdict = _verdict(gang, lease, listening)
    match verdict:
        case (reason, why):
            return gangs.end(tx, gang.id, reason, why, slot=gang.silent_slot)
        case timedelta():
            gangs.wind(tx, gang.id, verdict)
    return None


def _verdict(gang: Record, lease: timedelta, listening: timedelta) -> tuple[Reason, str] | timedelta:
    """Why the gang must end, or when to look again."""
    start_timeout = timedelta(seconds=gang.spec["limits"]["start_timeout_s"])
    silent = timedelta(seconds=float(gang.silent_s or 0.0))
    if gang.state == GangState.DRAINING and not gang.leases:
        draining = timedelta(seconds=float(gang.draining_s or 0.0))
        if gang.hello_at is None or silent > lease or draining > LONGEST_GOODBYE:
            return Reason(gang.reason_code or Reason.DRAINED), gang.reason or "drained"
        return min(lease, timedelta(seconds=5))
    if gang.state == GangState.LAUNCHING:
        if timedelta(seconds=float(gang.starting_s or 0.0)) > start_timeout and listening > lease:
            why = f"no rank said hello within {start_timeout.total_seconds():g} s{_backend_says(gang)}"
            return Reason.START_TIMEOUT, why
        return timedelta(seconds=2)
    if silent > lease:
        if listening <= lease:
            return lease - listening
        return Reason.LEASE_EXPIRED, f"no beat for {silent.total_seconds():.0f} s"
    if gang.state == GangState.LOADING and timedelta(seconds=float(gang.starting_s or 0.0)) > start_timeout:
        why = f"its ranks were not ready within {start_timeout.total_seconds():g} s{_backend_says(gang)}"
        return Reason.START_TIMEOUT, why
    return max(timedelta(seconds=0.5), lease - silent)


def _backend_says(gang: Record) -> str:
    return f": {gang.seen_detail}" if gang.seen_detail else ""


def _end_overdue(tx: Tx) -> list[str]:
    """What passed a deadline: queued requests expire, attempts that outlive their limit or a cancel end their gang."""
    over: list[str] = []
    for row in requests.overdue(tx):
        match row:
            case _ if row.state == RequestState.QUEUED and row.too_late:
                over += [row.id] if requests.expire(tx, row.id) else []
            case _ if row.state != RequestState.QUEUED and (row.overrun or row.deaf):
                over += _end_gang_of(tx, row)
            case _:
                requests.wind(tx, row.id)
    return over


def _end_gang_of(tx: Tx, row: Record) -> list[str]:
    limit = "a cancel" if row.deaf else f"its {row.timeout_s:g} s"
    why = f"an attempt outlived {limit} and the grace after it"
    ended = gangs.end(tx, row.gang_id, Reason.NO_PROGRESS, why, slot=row.slot)
    return [finished.request for finished in ended.requests] if ended else []
