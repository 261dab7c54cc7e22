"""Cron rules: five fields and an IANA zone; from a rule to the instants at which it fires. Pure: no clock.

The calendar is cronsim's, on wall-clock times without a zone. What a change of the clock does to them is decided here,
so that it can be said in two sentences: a wall time that is missing fires at the first instant after the gap; one that
comes twice fires the first time, or both times where the hour field begins with `*`. Never two fires at one instant.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from orchestrator.domain.wording import nearest
from orchestrator.errors import Invalid

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
LONGEST = 200
"""Characters of a rule."""
_OVERLAP = timedelta(hours=3)
"""More than clocks are put back anywhere: so far behind may lie a wall time that comes again."""
_FIRST = datetime(2026, 1, 1)  # noqa: DTZ001 - a wall time, to try a rule on


@dataclass(frozen=True, kw_only=True)
class _Field:
    """What one of the five takes."""

    name: str
    values: int
    words: str = ""

    def check(self, said: str) -> None:
        """Raises Invalid for what is no list of `*`, values and ranges, each with a step at most."""
        for term in said.split(","):
            match = _TERM.fullmatch(term)
            if match is None:
                raise _refused(
                    f"{said!r} is no {self.name}: write `*`, a value, `a-b`, `*/n`, `a-b/n` or a list of those"
                )
            if match["step"] and not 1 <= int(match["step"]) <= self.values:
                raise _refused(f"{term!r}: a step of the {self.name} is 1 to {self.values}")
            for word in re.findall("[A-Z]+", term):
                if word not in self.words.split():
                    raise _refused(f"{word!r} is no {self.name}")


_TERM = re.compile(r"(\*|(\d{1,2}|[A-Z]{3})-(\d{1,2}|[A-Z]{3}))(/(?P<step>\d{1,2}))?|\d{1,2}|[A-Z]{3}", re.ASCII)
_FIELDS = (
    _Field(name="minute", values=60),
    _Field(name="hour", values=24),
    _Field(name="day of month", values=31),
    _Field(name="month", values=12, words="JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"),
    _Field(name="day of week", values=7, words="SUN MON TUE WED THU FRI SAT"),
)


@dataclass(frozen=True, kw_only=True)
class Cron:
    """A good rule in its zone."""

    rule: str
    """Five fields; an alias is expanded."""
    zone: ZoneInfo

    @property
    def _both(self) -> bool:
        """Whether a wall time that comes twice fires twice."""
        return self.rule.split()[1].startswith("*")

    def ticks(self, after: datetime) -> Iterator[datetime]:
        """The instants later than `after`, in order, in UTC; ends where the calendar of the rule does."""
        later: list[datetime] = []
        last = after
        for wall in self._walls(after):
            instants = _instants(wall, self.zone)
            while later and later[0] <= instants[0]:  # no wall time still to come is earlier
                if (tick := heapq.heappop(later)) > last:
                    yield (last := tick)
            for instant in instants if self._both else instants[:1]:
                heapq.heappush(later, instant)
        while later:
            if (tick := heapq.heappop(later)) > last:
                yield (last := tick)

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """Wall times that matter after the instant; cronsim gives up after fifty years without one."""
        wall = after.astimezone(self.zone).replace(tzinfo=None)
        return CronSim(self.rule, wall - _OVERLAP if self._both else wall - timedelta(seconds=1))


def parse(said: str, zone: str) -> Cron:
    """Raises Invalid: with `/cron` or `/timezone`, `never_fires` for a rule that no day fits."""
    rule = _rule(said)
    cron = Cron(rule=rule, zone=zone_of(zone))
    try:
        next(CronSim(rule, _FIRST))
    except CronSimError as error:
        if re.search(r"day-of-month", str(error)) and _days_are_good(rule):
            raise _never(said) from None
        raise _refused(f"{said!r}: {str(error).lower()}") from None
    except StopIteration:
        raise _never(said) from None
    return cron


def _rule(said: str) -> str:
    """As five fields in capitals."""
    if len(said) > LONGEST:
        raise _refused(f"longer than {LONGEST} characters")
    if said.startswith("@"):
        if said.lower() not in ALIASES:
            raise _refused(f"no {said!r}; there are {', '.join(ALIASES)}")
        return ALIASES[said.lower()]
    fields = said.upper().split()
    if len(fields) != len(_FIELDS):
        raise _refused(f"{said!r} has {len(fields)} fields: write minute, hour, day of month, month, day of week")
    for field, part in zip(_FIELDS, fields, strict=True):
        field.check(part)
    return " ".join(fields)


def _days_are_good(rule: str) -> bool:
    """Whether its days exist in some month: then it is the months that do not have them."""
    minute, hour, days, _, weekday = rule.split()
    try:
        CronSim(" ".join((minute, hour, days, "*", weekday)), _FIRST)
    except CronSimError:
        return False
    return True


def zone_of(name: str) -> ZoneInfo:
    """An IANA zone by its name, `UTC` or Area/Place. Raises Invalid."""
    if name != "UTC" and ("/" not in name or name not in _zones()):
        near = nearest(name, _zones()) if "/" in name else None
        meant = f"did you mean {near}?" if near else "give an IANA name as Europe/Berlin, or UTC"
        raise Invalid(f"/timezone: no zone {name[:60]!r}: {meant}", pointer="/timezone")
    return ZoneInfo(name)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _instants(wall: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """When clocks of the zone show `wall`: once, twice in order, or the first instant after they jumped over it."""
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first == second:
        return (first,)
    return (first, second) if first < second else (_jump(second, first, zone),)


def _jump(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The instant, to the second, from which the zone has the offset that it has at `after`."""
    new = after.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        before, after = (before, middle) if middle.astimezone(zone).utcoffset() == new else (middle, after)
    return after


def _refused(why: str) -> Invalid:
    return Invalid(f"/cron: {why}", pointer="/cron")


def _never(said: str) -> Invalid:
    return Invalid(f"/cron: {said!r} never fires: no month has such a day", code="never_fires", pointer="/cron")
