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
        over = desk.database.transact(_end_overdue)
        report.note("expired", *over)
        desk.wake(requests=over)


def _end_silent(tx: Tx, desk: Desk, listening: timedelta) -> list[Ended]:
    return [
        ended for gang in gangs.overdue(tx) if (ended := _judge(tx, gang, desk.settings.lease, listening)) is not None
    ]


def _judge(tx: Tx, gang: Record, lease: timedelta, listening: timedelta) -> Ended | None:
    verdict = _verdict(gang, lease, listening)
    match verdict:
        case (reason, why):
            return gangs.end(tx, gang.id, reason, why)
        case timedelta():
            gangs.wind(tx, gang.id, verdict)
    return None


def _verdict(gang: Record, lease: timedelta, listening: timedelta) -> tuple[Reason, str] | timedelta:
    """Why the gang must end, or when to look again."""
    start_timeout = timedelta(seconds=gang.spec["limits"]["start_timeout_s"])
    silent = timedelta(seconds=float(gang.silent_s or 0.0))
    if gang.state == GangState.DRAINING and not gang.leases:
        if gang.hello_at is None or silent > lease:
            return Reason(gang.reason_code or Reason.DRAINED), gang.reason or "drained"
        return min(lease, timedelta(seconds=5))
    if gang.state == GangState.LAUNCHING:
        if timedelta(seconds=float(gang.starting_s or 0.0)) > start_timeout and listening > lease:
            return Reason.START_TIMEOUT, f"no rank said hello within {start_timeout.total_seconds():g} s"
        return timedelta(seconds=2)
    if silent > lease:
        if listening <= lease:
            return lease - listening
        return Reason.LEASE_EXPIRED, f"no beat for {silent.total_seconds():.0f} s"
    if gang.state == GangState.LOADING and timedelta(seconds=float(gang.starting_s or 0.0)) > start_timeout:
        return Reason.START_TIMEOUT, f"its ranks were not ready within {start_timeout.total_seconds():g} s"
    return max(timedelta(seconds=0.5), lease - silent)


def _end_overdue(tx: Tx) -> list[str]:
    """Queued requests past their deadline to start expire; attempts far past their time limit end their gang."""
    over = []
    for row in requests.overdue(tx):
        if row.state == RequestState.QUEUED and row.too_late and requests.expire(tx, row.id):
            over.append(row.id)
        elif row.state in (RequestState.ASSIGNED, RequestState.RUNNING, RequestState.CANCELING) and row.overrun:
            why = f"an attempt did not end within its {row.timeout_s:g} s nor within the grace after it"
            ended = gangs.end(tx, row.gang_id, Reason.NO_PROGRESS, why)
            over += [finished.request for finished in ended.requests] if ended else []
        else:
            requests.wind(tx, row.id)
    return over
