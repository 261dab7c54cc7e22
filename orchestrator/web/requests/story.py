"""The history of a request as its page draws it: lanes of spans with their place on a common axis. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.domain import waterfall
from orchestrator.domain.arrival import Arrival
from orchestrator.domain.waterfall import Kind, Lane, Span, Start, Try
from orchestrator.store.database import Record
from orchestrator.store.timeline import History
from orchestrator.web.frame import places
from orchestrator.web.requests.axis import Axis, axis

WIDTH = 1000
"""Of the axis, in the units of the drawing."""
_NARROWEST = 3


def drawn(row: Record, history: History) -> dict[str, Any]:
    """The lanes of a request with what the template draws of each span."""
    lanes = waterfall.lanes(row.created_at, row.finished_at, _tries(history), list(_starts(history)))
    until = row.finished_at or history.now
    whole_s = max(0.001, (until - row.created_at).total_seconds())
    spans = [_timed(span, row.created_at, until) for lane in lanes for span in lane.spans if span.kind is Kind.WAIT]
    scale = axis(whole_s, spans)
    return {
        "whole_s": whole_s,
        "quarters": [scale.moment(part / 4) for part in range(5)],
        "uneven": bool(scale.cuts),
        "lanes": [_lane(lane, row.created_at, until, scale) for lane in lanes],
    }


def _lane(lane: Lane, zero: datetime, until: datetime, scale: Axis) -> dict[str, Any]:
    return {
        "number": lane.number,
        "outcome": lane.outcome,
        "gang": lane.gang,
        "spans": [_placed(span, zero, until, scale) for span in lane.spans],
    }


def _timed(span: Span, zero: datetime, until: datetime) -> tuple[float, float]:
    """Seconds after the request was sent."""
    begin_s = (span.begin - zero).total_seconds()
    return begin_s, max(begin_s, ((span.end or until) - zero).total_seconds())


def _placed(span: Span, zero: datetime, until: datetime, scale: Axis) -> dict[str, Any]:
    begin_s, end_s = _timed(span, zero, until)
    x = min(WIDTH - _NARROWEST, WIDTH * scale.share(begin_s))
    return {
        "name": span.name,
        "kind": span.kind,
        "note": span.note,
        "x": round(x, 2),
        "width": round(min(max(_NARROWEST, WIDTH * scale.share(end_s) - x), WIDTH - x), 2),
        "after_s": begin_s,
        "took_s": end_s - begin_s,
        "cut": (begin_s, end_s) in scale.cuts,
        "goes_on": span.end is None,
    }


def _tries(history: History) -> list[Try]:
    return [
        Try(
            number=row.number,
            gang=row.gang_id,
            incarnation=row.incarnation,
            granted=row.granted_at,
            began=row.started_at,
            ended=row.ended_at,
            run_s=row.run_s,
            outcome=row.outcome,
            trail=trail(row.trail),
        )
        for row in history.tries
    ]


def trail(stored: Mapping[str, Any] | None) -> list[tuple[str, datetime]]:
    """What the gang said of the phases of its run, in the database's time."""
    if not stored:
        return []
    began = float(stored["began"])
    return [(str(name), datetime.fromtimestamp(began + float(at_s), UTC)) for name, at_s in stored["phases"]]


def _starts(history: History) -> Iterator[Start]:
    for gang in history.gangs:
        yield from _lives(gang, [move for move in history.moves if move.subject == gang.id], history.arrivals)


def _lives(gang: Record, moves: Sequence[Record], arrivals: Mapping[tuple[str, int], Arrival]) -> Iterator[Start]:
    """Each incarnation's start, also of the one that is awaited."""
    at: dict[tuple[str, int], datetime] = {}
    for move in moves:
        at.setdefault((move.move, move.incarnation), move.at)
    newest = gang.incarnation + (gang.state == "launching")
    for number in range(1, max(1, newest) + 1):
        first = number == 1
        is_last = number >= newest
        yield Start(
            gang=gang.id,
            incarnation=number,
            planned=gang.planned_at if first else None,
            launched=gang.launched_at if first else at.get(("break", number - 1), at.get(("hello", number))),
            hello=at.get(("hello", number)),
            ready=at.get(("ready", number)),
            over=gang.gone_at if is_last else at.get(("break", number), at.get(("hello", number + 1))),
            phases={name: s for name, s in gang.phases.items() if name != "link"} if is_last else {},
            starting=(gang.starting, gang.starting_at)
            if is_last and gang.state == "loading" and gang.starting
            else None,
            brought="pods" if places.namespace(gang.backend) else "processes",
            arrival=arrivals.get((gang.id, number)),
            says=": ".join(filter(None, (gang.seen_reason, gang.seen_detail)))
            if is_last and gang.state == "launching"
            else "",
        )
