"""Where the time of a request went, attempt by attempt: spans of waiting, of a gang's start, of running. Pure.

What is not known exactly is left whole: a start without its phases is one span, a run without its trail too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from orchestrator.domain.arrival import OWN, SHORTEST, Arrival, first_line, ways


class Kind(StrEnum):
    """What sort of time it is: each has its colour."""

    WAIT = "wait"
    LAUNCH = "launch"
    LOAD = "load"
    RUN = "run"
    SAVE = "save"


@dataclass(frozen=True, kw_only=True)
class Span:
    """`end` is None while it goes on."""

    name: str
    kind: Kind
    begin: datetime
    end: datetime | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Start:
    """The start of one incarnation of a gang. `launched`: when its processes were asked for, or came back."""

    gang: str
    incarnation: int
    planned: datetime | None
    launched: datetime | None
    hello: datetime | None
    ready: datetime | None
    over: datetime | None = None
    """When it ended without having been ready."""
    phases: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each, once it is ready."""
    starting: tuple[str, datetime] | None = None
    """The phase that it is in, and since when."""
    says: str = ""
    """The backend's word on it."""
    brought: str = "pods"
    """What takes the time until the first line of our own runs, where nothing more is known: pods, or processes."""
    arrival: Arrival | None = None
    """How its nodes came, where the place tells it."""


@dataclass(frozen=True, kw_only=True)
class Try:
    number: int
    gang: str
    incarnation: int
    granted: datetime
    began: datetime | None
    ended: datetime | None
    run_s: float | None
    outcome: str | None
    trail: Sequence[tuple[str, datetime]] = ()
    """The phases of its run, each with its begin."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One attempt, or the wait for the next."""

    number: int
    spans: tuple[Span, ...]
    outcome: str | None
    gang: str | None


def lanes(created: datetime, ended: datetime | None, tries: Sequence[Try], starts: Sequence[Start]) -> list[Lane]:
    """`ended`: of the request; a last lane without an attempt is there while it waits, or ended waiting."""
    found, since = [], created
    for one in tries:
        waited = _wait(since, one.granted, [start for start in starts if _concerns(start, one)])
        found.append(Lane(number=one.number, spans=(*waited, *_run(one)), outcome=one.outcome, gang=one.gang))
        since = one.ended or since
    if not tries or (tries[-1].ended is not None and ended != tries[-1].ended and _waits_on(ended, tries[-1])):
        later = _wait(since, ended, [start for start in starts if not any(_concerns(start, one) for one in tries)])
        found.append(Lane(number=len(tries) + 1, spans=tuple(later), outcome=None, gang=None))
    return found


def _waits_on(ended: datetime | None, last: Try) -> bool:
    """Between the end of the last attempt and that of the request lie microseconds if they are one move."""
    return ended is None or last.ended is None or ended - last.ended > timedelta(seconds=1)


def _concerns(start: Start, one: Try) -> bool:
    return (start.gang, start.incarnation) == (one.gang, one.incarnation)


# -------------------------------------------------------------------------------------------------------- the wait


def _wait(since: datetime, until: datetime | None, starts: Sequence[Start]) -> Iterator[Span]:
    """From `since` until it was assigned: the starts of gangs in it, and queueing wherever no gang started."""
    at = since
    for span in sorted((span for start in starts for span in start_spans(start)), key=lambda span: span.begin):
        if (clipped := _clip(span, since, until)) is None:
            continue
        if clipped.begin - at >= SHORTEST:
            yield Span(name="queued", kind=Kind.WAIT, begin=at, end=clipped.begin)
        yield clipped
        if clipped.end is None:
            return
        at = max(at, clipped.end)
    if until is None or until - at >= SHORTEST:
        yield Span(name="queued", kind=Kind.WAIT, begin=at, end=until)


def _clip(span: Span, since: datetime, until: datetime | None) -> Span | None:
    begin = max(span.begin, since)
    ends = [moment for moment in (span.end, until) if moment is not None]
    end = min(ends) if ends else None
    if end is not None and end - begin < SHORTEST:
        return None
    return replace(span, begin=begin, end=end)


def start_spans(start: Start) -> Iterator[Span]:
    if start.arrival is not None and start.launched is not None:
        yield from _arrive(start, start.launched, start.arrival)
    else:
        if start.planned is not None:
            yield Span(name="scheduling", kind=Kind.LAUNCH, begin=start.planned, end=start.launched or start.over)
        if start.launched is not None:
            yield from _launch(start, start.launched)
    if start.hello is not None:
        yield from _load(start, start.hello)


def _arrive(start: Start, launched: datetime, arrival: Arrival) -> Iterator[Span]:
    """What the place said, and the first lines. The plan is part of `scheduling`: it, too, waits for a place."""
    line = first_line(launched, start.hello, start.phases) if start.hello is not None else None
    found = list(ways(launched, arrival, line or start.over, reached=line is not None, again=start.planned is None))
    if start.planned is not None and (not found or found[0].name != "scheduling"):
        yield Span(name="scheduling", kind=Kind.LAUNCH, begin=start.planned, end=launched)
    for way in found:
        begin = start.planned if way.name == "scheduling" and start.planned is not None else way.begin
        note = start.says if way.end is None else arrival.word if way.name == "image" else ""
        yield Span(name=way.name, kind=Kind.LAUNCH, begin=begin, end=way.end, note=note)
    yield from _first_lines(start, line)


def _launch(start: Start, launched: datetime) -> Iterator[Span]:
    line = first_line(launched, start.hello, start.phases) if start.hello is not None else None
    yield Span(name=start.brought, kind=Kind.LAUNCH, begin=launched, end=line or start.over, note=start.says)
    yield from _first_lines(start, line)


def _first_lines(start: Start, line: datetime | None) -> Iterator[Span]:
    at = line
    for name in OWN:
        took = timedelta(seconds=start.phases.get(name, 0.0))
        if took and at is not None and start.hello is not None and at < start.hello:
            end = min(start.hello, at + took)
            yield Span(name=name, kind=Kind.LAUNCH, begin=at, end=end)
            at = end


_LOADING = {"preflight": "preflight", "setup": "load", "warmup": "warm-up"}


def _load(start: Start, hello: datetime) -> Iterator[Span]:
    done = start.ready or start.over
    known = [name for name in _LOADING if start.phases.get(name)]
    if start.starting is not None and done is None:
        name, since = start.starting
        if since - hello >= SHORTEST:
            yield Span(name="load" if name != "preflight" else "hello", kind=Kind.LOAD, begin=hello, end=since)
        yield Span(name=_LOADING.get(name, name), kind=Kind.LOAD, begin=since)
        return
    if not known or done is None:
        yield Span(name="load", kind=Kind.LOAD, begin=hello, end=done)
        return
    at = hello
    for name in known:
        end = done if name == known[-1] else min(done, at + timedelta(seconds=start.phases[name]))
        yield Span(name=_LOADING[name], kind=Kind.LOAD, begin=at, end=end)
        at = end


# --------------------------------------------------------------------------------------------------------- the run


def _run(one: Try) -> Iterator[Span]:
    began = _began(one)
    if began - one.granted >= SHORTEST:
        yield Span(name="hand-over", kind=Kind.WAIT, begin=one.granted, end=began)
    trail = [(name, max(at, began)) for name, at in one.trail] or [("run", began)]
    ends = [at for _, at in trail[1:]] + [one.ended]
    for (name, at), end in zip(trail, ends, strict=True):
        if end is None or end - at >= SHORTEST or len(trail) == 1:
            saves = name == "publish"
            yield Span(name="save" if saves else name, kind=Kind.SAVE if saves else Kind.RUN, begin=at, end=end)


def _began(one: Try) -> datetime:
    """The gang knows best; a beat comes late, and of short runs none."""
    if one.trail:
        return max(one.granted, one.trail[0][1])
    if one.ended is not None and one.run_s and one.outcome in ("succeeded", "failed"):
        return max(one.granted, one.ended - timedelta(seconds=one.run_s))
    return one.began or one.ended or one.granted
