"""A schedule's rule as people read it: in words, and the times that come. Pure but for what it remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from cron_descriptor import CasingTypeEnum, ExpressionDescriptor, Options
from cron_descriptor.Exception import FormatError

from orchestrator.domain.cron import ALIASES
from orchestrator.domain.schedules import Policy
from orchestrator.store.database import Record

_MOST_REMEMBERED = 10_000
_known: dict[tuple[str, int], list[datetime]] = {}


def in_words(cron: str) -> str | None:
    """A rule that was read before, as a sentence. None where the sentence would say something else than the rule does.

    The library calls two day fields alternatives whenever both say something; of ours both must hold where one begins
    with `*`.
    """
    fields = ALIASES.get(cron.strip().lower(), cron).split()
    day, weekday = fields[2], fields[4]
    if (day.startswith("*") or weekday.startswith("*")) and day != "*" and weekday != "*":
        return None
    options = Options()
    options.casing_type, options.use_24hour_time_format, options.verbose = CasingTypeEnum.Sentence, True, True
    options.locale_code = "en_US"  # else it takes that of the machine
    try:
        words = str(ExpressionDescriptor(" ".join(fields), options).get_description())
    except FormatError:
        return None
    return words.replace(", every hour, every day", "")


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A time that comes."""

    at: datetime
    local: str
    """In the schedule's zone."""


def upcoming(policy: Policy, after: datetime) -> list[Tick]:
    """The next five. Raises Invalid for a rule that is none."""
    return _shown(policy, policy.next(after))


def next_of(row: Record, now: datetime) -> list[datetime]:
    """The next ticks of a schedule as it is now, whether or not it is paused; computed once for each tick."""
    if row.ended_at is not None:
        return []
    key = (row.id, row.version)
    known = [tick for tick in _known.get(key, ()) if tick > now]
    if not known:
        if len(_known) >= _MOST_REMEMBERED:
            _known.clear()
        known = _known[key] = Policy.model_validate(row.policy).next(now, 2)
    return known


def _shown(policy: Policy, ticks: list[datetime]) -> list[Tick]:
    zone = policy.rule.zone
    return [Tick(at=tick, local=tick.astimezone(zone).strftime("%a %d %b %Y, %H:%M %Z")) for tick in ticks]


@cache
def zones() -> list[str]:
    """Names to choose from."""
    return sorted(name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "SystemV/")))


def template_of(runs: Mapping[str, Any]) -> str:
    """Of what it runs."""
    (order,) = runs.values()
    return str(order["template"])
