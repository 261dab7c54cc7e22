"""What a schedule says, and what becomes of each of its ticks. Pure: no clock, no rows, no request."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from orchestrator.domain.cron import Cron, parse
from orchestrator.domain.strict import Sent
from orchestrator.domain.wording import spelt
from orchestrator.errors import Invalid

NAME = spelt(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "a name of lower-case letters, digits and -, up to 63")
SHOWN = 5
"""Fires that are shown ahead."""
_MOMENT = spelt(
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$",
    "a moment with its zone, as 2026-11-22T02:00:00Z or 2026-11-22T02:00:00+01:00",
)

TickWord = Literal["scheduled_at", "scheduled_local", "scheduled_date", "scheduled_unix"]
"""Plain values of a tick, for `inject`."""


class FireState(StrEnum):
    WAITING = "waiting"
    RAN = "ran"
    SKIPPED = "skipped"


class SkipReason(StrEnum):
    """Why a tick has no run."""

    PAUSED = "paused"
    MISFIRE = "misfire"
    OVERLAP = "overlap"
    QUEUE_FULL = "queue_full"
    REFUSED = "refused"
    TOO_LATE = "too_late"


def _moment(said: str) -> str:
    """As UTC."""
    try:
        moment = datetime.fromisoformat(said).astimezone(UTC)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC)
    if not 2000 <= moment.year < 2200:
        raise ValueError("a time between the years 2000 and 2200")
    return moment.isoformat().replace("+00:00", "Z")


Moment = Annotated[str, Field(pattern=_MOMENT, description="RFC 3339 with a zone"), AfterValidator(_moment)]
Pointer = Annotated[
    str, Field(pattern=spelt(r"^/(input|labels)(/[^/]{1,100}){1,8}$", "a place, as /input/day or /labels/day"))
]


class Policy(Sent):
    """When a schedule fires, and what becomes of ticks that come too early or too late."""

    cron: str = Field(max_length=200, description="five fields, or an alias as `@daily`")
    timezone: str = Field(default="UTC", max_length=60, description="IANA name, as Europe/Berlin")
    inject: dict[Pointer, TickWord] = Field(
        default_factory=dict, max_length=32, description="where in the request values of the tick are put"
    )
    overlap: Literal["skip", "queue", "allow", "replace"] = Field(
        default="skip", description="what a tick does while an earlier run is not over"
    )
    max_queued: int = Field(default=10, ge=1, le=100, description="with `queue`: ticks that may wait")
    misfire: Literal["run_once", "skip", "catch_up"] = Field(
        default="run_once", description="what becomes of ticks that are later than `grace_s`"
    )
    max_catch_up: int = Field(default=10, ge=1, le=100, description="with `catch_up`: the newest so many run")
    grace_s: int = Field(default=3600, ge=60, le=7 * 86400, description="how late a tick still runs as if in time")
    jitter_s: int = Field(default=0, ge=0, le=3600, description="each tick runs up to so much later, always the same")
    start_at: Moment | None = Field(default=None, description="no tick before")
    end_at: Moment | None = Field(default=None, description="no tick after")

    @field_validator("end_at")
    @classmethod
    def _after_the_start(cls, said: str | None, info: ValidationInfo) -> str | None:
        begin = info.data.get("start_at")
        if said and begin and at(said) <= at(begin):
            raise ValueError("it is not after start_at")
        return said

    @property
    def rule(self) -> Cron:
        """Raises Invalid: see `cron.parse`."""
        return parse(self.cron, self.timezone)

    @property
    def grace(self) -> timedelta:
        return timedelta(seconds=self.grace_s)

    def ticks(self, after: datetime, until: datetime | None = None) -> Iterator[datetime]:
        """Later than `after`, between start and end, not later than `until`."""
        begin, last = after, until
        if self.start_at and at(self.start_at) > after:
            begin = at(self.start_at) - timedelta(microseconds=1)
        if self.end_at:
            last = at(self.end_at) if last is None else min(last, at(self.end_at))
        found = self.rule.ticks(begin)
        return found if last is None else takewhile(lambda tick: tick <= last, found)

    def next(self, after: datetime, count: int = SHOWN) -> list[datetime]:
        """The next ticks, fewer where the schedule ends."""
        return list(islice(self.ticks(after), count))

    def due(self, schedule_id: str, tick: datetime) -> datetime:
        """When the tick is to run: its jitter is the same for everybody who asks."""
        digest = hashlib.sha256(f"{schedule_id} {tick.isoformat()}".encode()).digest()
        return tick + timedelta(seconds=int.from_bytes(digest[:8], "big") % (self.jitter_s + 1))

    def kept(self) -> int:
        """How many ticks that are too late run nevertheless, counted from the newest."""
        return {"skip": 0, "run_once": 1, "catch_up": self.max_catch_up}[self.misfire]


def at(said: str) -> datetime:
    """A moment that passed its check."""
    return datetime.fromisoformat(said)


# ------------------------------------------------------------------------------------------------- one tick that is due


@dataclass(frozen=True, kw_only=True)
class Run:
    """Start it now; what runs is to be canceled."""

    cancel: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Skip:
    reason: SkipReason
    why: str


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Until an earlier run is over."""


Verdict = Run | Skip | Wait


def decide(policy: Policy, open_runs: tuple[str, ...]) -> Verdict:
    """What becomes of the oldest tick that is due, while these runs of the schedule are not over."""
    if not open_runs:
        return Run()
    match policy.overlap:
        case "allow":
            return Run()
        case "replace":
            return Run(cancel=open_runs)
        case "queue":
            return Wait()
        case _:
            return Skip(reason=SkipReason.OVERLAP, why=f"{open_runs[0]} was not over")


# ----------------------------------------------------------------------------------------------------- values of a tick


def words(tick: datetime, policy: Policy) -> dict[str, str | int]:
    """Every value that `inject` may name."""
    local = tick.astimezone(policy.rule.zone)
    return {
        "scheduled_at": tick.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "scheduled_local": local.isoformat(),
        "scheduled_date": local.date().isoformat(),
        "scheduled_unix": int(tick.timestamp()),
    }


def injected(document: Mapping[str, Any], policy: Policy, tick: datetime) -> dict[str, Any]:
    """The document with values of the tick in their places; nothing in it is read as a text to fill in.

    Raises Invalid where a place lies in what is no object.
    """
    filled = dict(document)
    values = words(tick, policy) if policy.inject else {}
    for pointer, word in policy.inject.items():
        filled = _put(filled, [_unescaped(part) for part in pointer.split("/")[1:]], values[word], pointer)
    return filled


def _put(inside: Any, path: list[str], value: str | int, pointer: str) -> dict[str, Any]:
    if not isinstance(inside, dict):
        raise Invalid(f"/inject: {pointer} leads into what is no object", pointer="/inject")
    first, *rest = path
    return {**inside, first: _put(inside.get(first, {}), rest, value, pointer) if rest else value}


def _unescaped(part: str) -> str:
    """RFC 6901."""
    return part.replace("~1", "/").replace("~0", "~")
