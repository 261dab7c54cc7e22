"""Compares what the places hold with what is wanted. A phase only speeds a decision up; heartbeats are the proof."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from orchestrator.backends.base import Observed, Phase
from orchestrator.domain.states import GangState, Reason
from orchestrator.errors import BackendError
from orchestrator.loops.desk import Desk, Report
from orchestrator.store import arrivals, gangs, rank_errors, whereabouts
from orchestrator.store.arrivals import Told
from orchestrator.store.database import Record, Tx
from orchestrator.store.whereabouts import Known

log = logging.getLogger("muster.observe")

_STARTING = (GangState.LAUNCHING, GangState.LOADING)


def run_once(desk: Desk) -> Report:
    """End gangs whose processes ended or are not there; stop processes whose gang nobody knows.

    A place that does not answer keeps nobody from the others. Raises BackendError where none does.
    """
    report = Report()
    desk.places.remember(desk.database.transact(whereabouts.places))
    expected = desk.database.transact(lambda tx: whereabouts.expected(tx, desk.places.addresses.all))
    survey = desk.places.survey()
    if not survey.seen:
        raise next(iter(survey.refused.values()))
    known = _known(desk, [one for seen in survey.seen.values() for one in seen])
    for place, seen in survey.seen.items():
        if not desk.places.is_quiet(place):
            _look_after(desk, place, seen, [row for row in expected if row.backend == place], known, report)
    for place, error in desk.places.shut.items():
        for row in expected:
            if row.backend == place and row.state == GangState.LAUNCHING:
                _end_shut(desk, row.id, error, report)
    return report


def _look_after(
    desk: Desk,
    place: str,
    seen: Sequence[Observed],
    expected: Sequence[Record],
    known: Mapping[str, Known],
    report: Report,
) -> None:
    try:
        _compare(desk, place, seen, known, report)
        _miss(desk, expected, seen, report)
    except BackendError as error:
        log.warning("%s: %s", place, error.message, extra={"action": "place_failed", "place": place})
        if error.code == "namespace_gone":  # and what is watched does not say so yet
            desk.places.hush(place)


def _end_shut(desk: Desk, gang_id: str, error: BackendError, report: Report) -> None:
    """No rank of it lives, and none can come where we may do nothing. One that beats is left to its beats."""

    def work(tx: Tx) -> gangs.Ended | None:
        ended = gangs.end(tx, gang_id, Reason.NAMESPACE_GONE, error.message)
        gangs.absent(tx, gang_id)
        return ended

    ended = desk.database.transact(work)
    if ended is not None:
        report.note("ended", gang_id)
        desk.settle(ended)


def _known(desk: Desk, seen: Sequence[Observed]) -> Mapping[str, Known]:
    """Of what was seen; what is said of those that start is noted."""
    known = desk.database.transact(lambda tx: whereabouts.known(tx, [one.gang for one in seen]))
    starting = [one for one in seen if one.gang in known and known[one.gang].state in _STARTING]
    words = {one.gang: (one.reason, one.detail) for one in starting}
    desk.database.transact(lambda tx: _note(tx, words, _arrivals(seen, known)))
    return known


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


def _compare(desk: Desk, place: str, seen: Sequence[Observed], known: Mapping[str, Known], report: Report) -> None:
    for one in seen:
        row = known.get(one.gang)
        if row is None or row.place != place or row.forgotten:
            desk.places.at(place).stop(one.name, desk.settings.stop_grace)
            report.note("orphaned", one.name)
        elif row.state in (GangState.GONE, GangState.PLANNED):
            pass  # the launch loop is about it
        elif one.phase in (Phase.FAILED, Phase.SUCCEEDED):
            _end(desk, one, row.state, report)


def _miss(desk: Desk, expected: Sequence[Record], seen: Sequence[Observed], report: Report) -> None:
    """End what a place should hold and does not, by a direct look."""
    there = {one.gang for one in seen}
    for row in expected:
        if row.id not in there and desk.places.at(row.backend).look(row.name) is None:
            _lost(desk, row.id, report)


def _lost(desk: Desk, gang_id: str, report: Report) -> None:
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
