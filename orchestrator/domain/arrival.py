"""How a gang's processes came, where a place tells it: on a machine, started, then a line of their own. Pure.

Moments are those of the last node, in the database's time. It must not know pods: a place without such steps has no
arrival, and what it did until the first line is one stretch of time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

SHORTEST = timedelta(milliseconds=1)
OWN = ("import", "rendezvous")
"""What ranks do between their first line and their hello, and report."""


class Stretch(StrEnum):
    """What the time until the first line goes to."""

    SCHEDULING = "scheduling"  # until every node has a machine
    IMAGE = "image"  # until every container runs: volumes, image, the container itself
    RESTART = "restart"  # likewise on machines that they had before: the back-off, the container made again
    START = "start"  # until the first line
    UNKNOWN = "pods"  # nobody saw when they were there


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """None: not yet. `word`: what the place said of the image."""

    scheduled: datetime | None = None
    started: datetime | None = None
    word: str = ""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One stretch; `end` is None while it goes on."""

    name: Stretch
    begin: datetime
    end: datetime | None = None


def ways(begin: datetime, arrival: Arrival, until: datetime | None, *, reached: bool, again: bool) -> Iterator[Way]:
    """From `begin` to the first line, in order and without overlap, however far clocks are apart.

    `until`: when the first line ran, if it was `reached`, or when the gang ended without it. `again`: another life
    began, so machines may be those of before.
    """
    at, last = begin, Stretch.START
    stays = again and arrival.scheduled is not None and arrival.scheduled <= begin
    for name, moment in (
        (Stretch.SCHEDULING, arrival.scheduled),
        (Stretch.RESTART if stays else Stretch.IMAGE, arrival.started),
    ):
        if moment is None:
            last = Stretch.UNKNOWN if reached else name
            break
        end = max(at, moment if until is None else min(moment, until))
        if end - at >= SHORTEST:
            yield Way(name=name, begin=at, end=end)
        at = end
    if until is None or until - at >= SHORTEST:
        yield Way(name=last, begin=at, end=until)


def now_in(begin: datetime, arrival: Arrival, *, again: bool) -> Way:
    """The stretch that a gang is in whose first line did not run yet."""
    *_, last = ways(begin, arrival, None, reached=False, again=again)
    return last


def first_line(launched: datetime, hello: datetime, phases: Mapping[str, float]) -> datetime:
    """When the first line of ours ran. Phases that would not fit are taken for a part of what was before."""
    own = timedelta(seconds=sum(phases.get(name, 0.0) for name in OWN))
    return hello - own if own <= hello - launched else hello


def to_first_line(
    launched: datetime, arrival: Arrival | None, hello: datetime, phases: Mapping[str, float]
) -> dict[str, float]:
    """Seconds of each stretch of a first life that said hello; where nothing more is known, all of it is `start`."""
    return _seconds(launched, arrival, first_line(launched, hello, phases))


def _seconds(begin: datetime, arrival: Arrival | None, first_line: datetime) -> dict[str, float]:
    found = list(ways(begin, arrival, first_line, reached=True, again=False)) if arrival is not None else []
    if not found or found[-1].name is Stretch.UNKNOWN:
        return {Stretch.START: max(0.0, (first_line - begin).total_seconds())}
    took = {way.name: (way.end - way.begin).total_seconds() for way in found if way.end is not None}
    return {name: took.get(name, 0.0) for name in (Stretch.SCHEDULING, Stretch.IMAGE, Stretch.START)}
