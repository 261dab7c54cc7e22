"""From recorded rows to spans: one request reads as one trace. Pure; knows nothing of opentelemetry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain import tracing
from orchestrator.domain.tracing import Trace, Tracing

IN_ORDER = ("import", "rendezvous", "preflight", "setup", "warmup")
"""The phases of a start that ranks report, as they follow each other."""
SAME_MOVE_S = 0.05
"""Between the end of an attempt and that of its request, if one move made both."""
Row = Any
"""Of `store.tracing`."""
Said = Mapping[str, str | int | float]


@dataclass(frozen=True, kw_only=True)
class Span:
    """One span; moments in seconds since 1970."""

    name: str
    at: Trace
    parent: str | None
    """Its ID, in the same trace; None: the trace begins here."""
    begin_s: float
    end_s: float
    attributes: Said = field(default_factory=dict)
    links: tuple[Trace, ...] = ()
    error: str | None = None
    """Why what it is about did not succeed."""
    entry: bool = False
    """It is what a caller asked for."""
    moments: tuple[tuple[str, float], ...] = ()
    """What happened in it, and when, in seconds since 1970."""


def request(row: Row, how: Tracing) -> Iterator[Span]:
    """The spans of a request that is over: itself, its waits, the start of a gang that it waited for, its attempts."""
    said = tracing.read(row.traceparent, row.tracestate)
    trace = how.of(row.id, said)
    if trace is None:
        return
    about = {"muster.request.id": row.id, "muster.placement": row.placement}
    yield _whole("request", row, trace, said, about, tuple(_links(row, how)))
    yield from _waits(row, trace)
    before: Trace | None = None
    for attempt in row.attempts:
        here = trace.at(attempt["id"])
        yield _attempt(attempt, row, here, before)
        before = here


def submitted(request_id: str, said: Trace | None, how: Tracing, begin_s: float, end_s: float) -> Span | None:
    """The call that recorded it, from its arrival to the commit, by this replica's clock."""
    trace = how.of(request_id, said)
    if trace is None:
        return None
    return _part("submit", request_id, "submit", trace, begin_s, end_s, {"muster.request.id": request_id})


def batch(row: Row, how: Tracing) -> Iterator[Span]:
    """A batch that is over, as one span; its items have traces of their own, which link to it."""
    said = tracing.read(row.traceparent)
    trace = how.of(row.id, said)
    if trace is None:
        return
    yield _whole("batch", row, trace, said, {"muster.batch.id": row.id, "muster.batch.items": row.items})


def _whole(kind: str, row: Row, trace: Trace, said: Trace | None, more: Said, links: tuple[Trace, ...] = ()) -> Span:
    """What a caller asked for, from accepted to its end."""
    return Span(
        name=f"{kind} {row.template}",
        at=trace.at(row.id),
        parent=said.span if said else None,
        begin_s=row.created_s,
        end_s=row.finished_s,
        attributes=_about(row, more),
        links=links,
        error=row.reason or row.state if row.state in ("failed", "expired") else None,
        entry=True,
    )


def _links(row: Row, how: Tracing) -> Iterator[Trace]:
    """To the request that it tries again, and to its batch."""
    for subject, parent in ((row.retry_of, row.retried_parent), (row.batch_id, row.batch_parent)):
        trace = how.of(subject, tracing.read(parent)) if subject else None
        if trace is not None:
            yield trace.at(subject)


def _waits(row: Row, trace: Trace) -> Iterator[Span]:
    """From accepted, or from the end of a lost attempt, to the next attempt; or to an end without one."""
    since = row.created_s
    for attempt in row.attempts:
        number = attempt["number"]
        wait = _part("queue", row.id, f"queue {number}", trace, since, attempt["granted_s"], {"muster.attempt": number})
        yield wait
        yield from _cold_start(attempt, wait)
        since = attempt["ended_s"] or since
    if not row.attempts or row.finished_s - since > SAME_MOVE_S:
        number = len(row.attempts) + 1
        yield _part("queue", row.id, f"queue {number}", trace, since, row.finished_s, {"muster.attempt": number})


def _cold_start(attempt: Mapping[str, Any], wait: Span) -> Iterator[Span]:
    """The start of the gang, if that was what was waited for: the gang got ready meanwhile."""
    ready, launched = attempt["first_ready_s"], attempt["launched_s"]
    if not ready or not launched or not wait.begin_s < ready <= wait.end_s:
        return
    about = {"muster.gang.id": attempt["gang"]}
    subject = f"{wait.at.span} cold"
    here = Span(
        name="cold start",
        at=wait.at.at(subject),
        parent=wait.at.span,
        begin_s=attempt["planned_s"] or launched,
        end_s=ready,
        attributes=about,
    )
    yield here
    for name, begin, end in _phases(attempt):
        yield Span(
            name=name,
            at=here.at.at(f"{subject} {name}"),
            parent=here.at.span,
            begin_s=begin,
            end_s=end,
            attributes=about,
        )


def _phases(attempt: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """As recorded: until the ranks' interpreter ran, then what they report, backwards from ready."""
    if attempt["ready_s"] != attempt["first_ready_s"]:  # the ranks came back since: these are of a later life
        return
    end = attempt["ready_s"]
    reported = attempt["phases"] or {}
    found = []
    for name in reversed(IN_ORDER):
        if isinstance(seconds := reported.get(name), int | float):
            found.append((name, end - seconds, end))
            end -= seconds
    yield from _launch(attempt, max(end, attempt["launched_s"]))
    yield from reversed(found)


def _launch(attempt: Mapping[str, Any], first_line_s: float) -> Iterator[tuple[str, float, float]]:
    """Of pods in three parts, whose moments come from other clocks; of processes, or where nobody saw them, in one."""
    at, moments = attempt["launched_s"], (attempt.get("scheduled_s"), attempt.get("started_s"))
    if None in moments:
        yield "launch", at, first_line_s
        return
    for name, moment in zip(("scheduling", "image", "start"), (*moments, first_line_s), strict=True):
        end = min(max(at, moment), first_line_s)
        yield name, at, end
        at = end


def _attempt(attempt: Mapping[str, Any], row: Row, here: Trace, before: Trace | None) -> Span:
    said = {
        "muster.attempt": attempt["number"],
        "muster.attempt.id": attempt["id"],
        "muster.gang.id": attempt["gang"],
        "muster.gang.incarnation": attempt["incarnation"],
        "muster.outcome": attempt["outcome"],
        "muster.reason": attempt["reason_code"],
        "muster.rank": attempt["rank"],
        "muster.node": attempt["node"],
    }
    good = attempt["outcome"] in ("succeeded", "canceled")
    return Span(
        name=f"attempt {attempt['number']}",
        at=here,
        parent=tracing.span_of(row.id),
        begin_s=attempt["granted_s"],
        end_s=attempt["ended_s"] or row.finished_s,
        attributes={name: value for name, value in said.items() if value is not None},
        links=(before,) if before else (),
        moments=tuple(_trail(attempt["trail"])),
        error=None if good else attempt["reason"] or attempt["outcome"] or "lost",
    )


def _trail(trail: Mapping[str, Any] | None) -> Iterator[tuple[str, float]]:
    """The phases of the run, each with its begin."""
    if trail is not None:
        for name, at_s in trail["phases"]:
            yield str(name), float(trail["began"]) + float(at_s)


def _part(name: str, owner: str, part: str, trace: Trace, begin_s: float, end_s: float, said: Said) -> Span:
    """A child of the span about `owner`."""
    at = trace.at(f"{owner} {part}")
    return Span(name=name, at=at, parent=tracing.span_of(owner), begin_s=begin_s, end_s=end_s, attributes=said)


def _about(row: Row, more: Said) -> Said:
    said = {
        "muster.tenant": row.tenant,
        "muster.template": row.template,
        "muster.template.version": row.template_version,
        "muster.state": row.state,
        "muster.reason": row.reason_code,
        **more,
    }
    return {name: value for name, value in said.items() if value is not None}
