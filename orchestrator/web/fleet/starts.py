"""Where the time of a gang's start went, phase by phase. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.waterfall import Kind, Span, Start, start_spans
from orchestrator.store import arrivals
from orchestrator.store.database import Record
from orchestrator.web.frame import places
from orchestrator.web.frame.gauges import WIDTH, Piece, placed

MEANS: Mapping[str, str] = {
    "scheduling": "planned, until the last node has its place",
    "image": "volumes, the image, and the container of the last node made",
    "restart": "on the nodes that it had: the back-off, and the container made again",
    "start": "the containers run, until the first line of our own",
    "pods": "a place, the image, the first line of our own: nobody saw when",
    "processes": "the processes, until the first word of rank 0",
    "import": "torch and the template's code",
    "rendezvous": "all ranks meet",
    "hello": "all ranks say hello",
    "preflight": "devices, memory and the links between ranks are tried",
    "load": "the handler is set up: weights and all that is made once",
    "warm-up": "one request of the template, whose result nobody gets",
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One phase of a start: it began `at_s` after the first and took `seconds`; None while it goes on."""

    name: str
    means: str
    began: datetime
    at_s: float
    seconds: float | None
    piece: Piece


def stages(gang: Record) -> list[Stage]:
    """Of the start that it is in, or of its last one: a row of `fleet.gang`."""
    spans = list(start_spans(_start(gang)))
    if not spans:
        return []
    zero = spans[0].begin
    until = spans[-1].end or gang.now
    whole_s = max(0.001, (until - zero).total_seconds())
    return [_stage(span, zero, gang.now, whole_s) for span in spans]


def _start(gang: Record) -> Start:
    if gang.way_began_at is not None and gang.incarnation:
        return _again(gang)
    first = gang.incarnation <= 1
    is_ready = gang.ready_at is not None and (gang.hello_at is None or gang.ready_at >= gang.hello_at)
    return Start(
        gang="",
        incarnation=gang.incarnation,
        planned=gang.planned_at if first else None,
        launched=gang.launched_at if first else None,
        hello=gang.hello_at,
        ready=gang.ready_at if is_ready else None,
        over=None if is_ready else gang.gone_at,
        phases={name: float(seconds) for name, seconds in gang.phases.items() if name != "link"},
        starting=(gang.starting, gang.starting_at) if gang.starting else None,
        says=_says(gang),
        brought=_brought(gang),
        arrival=arrivals.of(gang),
    )


def _again(gang: Record) -> Start:
    """Its ranks ended, and it waits for their next life."""
    return Start(
        gang="",
        incarnation=gang.incarnation + 1,
        planned=None,
        launched=gang.way_began_at,
        hello=None,
        ready=None,
        says=_says(gang),
        brought=_brought(gang),
        arrival=arrivals.of(gang),
    )


def _says(gang: Record) -> str:
    """The backend's word on it, while its ranks are not there."""
    said = ": ".join(filter(None, (gang.seen_reason, gang.seen_detail)))
    return said if gang.state == "launching" else ""


def _brought(gang: Record) -> str:
    return "pods" if places.namespace(gang.backend) else "processes"


_COLOURS = {Kind.LAUNCH: 2, Kind.LOAD: 4}


def _stage(span: Span, zero: datetime, now: datetime, whole_s: float) -> Stage:
    at_s = (span.begin - zero).total_seconds()
    took_s = max(0.0, ((span.end or now) - span.begin).total_seconds())
    return Stage(
        name=span.name,
        means=": ".join(filter(None, (MEANS.get(span.name), span.note))),
        began=span.begin,
        at_s=at_s,
        seconds=took_s if span.end else None,
        piece=placed(WIDTH * at_s / whole_s, WIDTH * took_s / whole_s, f"phase-{_COLOURS.get(span.kind, 1)}"),
    )
