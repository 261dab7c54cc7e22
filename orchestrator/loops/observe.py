"""Compares what the backend holds with what is wanted. A phase only speeds a decision up; heartbeats are the proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.backends.base import Observed, Phase
from orchestrator.domain.states import GangState, Reason
from orchestrator.loops.desk import Desk, Report
from orchestrator.store import arrivals, gangs, rank_errors
from orchestrator.store.arrivals import Told
from orchestrator.store.database import Tx
from orchestrator.store.gangs import Known

_STARTING = (GangState.LAUNCHING, GangState.LOADING)


def run_once(desk: Desk) -> Report:
    """End gangs whose processes ended or are not there; stop processes whose gang nobody knows."""
    report = Report()
    expected = desk.database.transact(lambda tx: gangs.expected(tx, desk.backend.name))
    seen = desk.backend.observe()
    known = desk.database.transact(lambda tx: gangs.known(tx, [one.gang for one in seen]))
    states = {gang: one.state for gang, one in known.items()}
    words = {one.gang: (one.reason, one.detail) for one in seen if states.get(one.gang) in _STARTING}
    desk.database.transact(lambda tx: _note(tx, words, _arrivals(seen, known)))
    for one in seen:
        match states.get(one.gang):
            case None:
                desk.backend.stop(one.name, desk.settings.stop_grace)
                report.note("orphaned", one.name)
            case GangState.GONE | GangState.PLANNED:
                pass  # the launch loop is about it
            case _ if one.phase in (Phase.FAILED, Phase.SUCCEEDED):
                _end(desk, one, states[one.gang], report)
    for gang_id in expected.keys() - {one.gang for one in seen}:
        if desk.backend.look(expected[gang_id]) is None:
            _miss(desk, gang_id, report)
    return report


def _note(tx: Tx, words: Mapping[str, tuple[str | None, str | None]], told: Mapping[str, Told]) -> None:
    gangs.note_words(tx, words)
    arrivals.note(tx, told)


def _arrivals(seen: Sequence[Observed], known: Mapping[str, Known]) -> dict[str, Told]:
    """Of gangs on their way, and of those of which nobody saw in time how they came."""
    return {
        one.gang: Told(
            made=one.moments.made,
            scheduled=one.moments.scheduled,
            started=one.moments.started,
            word=one.moments.word,
        )
        for one in seen
        if one.moments is not None and one.gang in known and _is_open(known[one.gang])
    }


def _is_open(known: Known) -> bool:
    match known.state:
        case GangState.LAUNCHING:
            return True
        case GangState.LOADING | GangState.READY:
            return not known.arrived
    return False


def _miss(desk: Desk, gang_id: str, report: Report) -> None:
    why = "nothing of it is left where it was launched"
    ended = desk.database.transact(lambda tx: gangs.end(tx, gang_id, Reason.GANG_LOST, why))
    if ended is not None:
        report.note("missed", gang_id)
        desk.settle(ended)


def _end(desk: Desk, one: Observed, state: GangState, report: Report) -> None:
    drained = one.phase is Phase.SUCCEEDED
    reason = Reason.DRAINED if drained else Reason.GANG_LOST
    why = one.detail or ("its processes ended in good order" if drained else "its processes ended")

    def work(tx: Tx) -> gangs.Ended | None:
        if one.failed is not None and state is GangState.LAUNCHING:  # its ranks could not say it themselves
            node = f"node {one.failed.node}"
            rank_errors.record_last_words(tx, one.gang, one.failed.rank, node, why, one.failed.words)
        return gangs.end(tx, one.gang, reason, why)

    ended = desk.database.transact(work)
    if ended is not None:
        report.note("ended", one.gang)
        desk.settle(ended)
