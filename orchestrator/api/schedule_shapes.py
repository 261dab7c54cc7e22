"""What /v1/schedules takes and answers, as types; beside shapes.py."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from orchestrator.api.batch_shapes import NamedBatchOrder
from orchestrator.api.submission import Submission
from orchestrator.domain.schedules import NAME, Moment, Pointer, Policy, SkipReason, TickWord
from orchestrator.domain.strict import Sent


class Runs(Sent):
    """What each tick records: a request, or a batch whose lines lie in a file or in storage."""

    request: Submission | None = None
    batch: NamedBatchOrder | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.request is None) == (self.batch is None):
            raise ValueError("give `request` or `batch`")
        return self

    @property
    def said(self) -> dict[str, Any]:
        """The one that is given, as it was given."""
        return {kind: order for kind, order in self.model_dump(exclude_unset=True).items() if order is not None}


class ScheduleDraft(Policy):
    """A rule, and what to run."""

    name: Annotated[str, Field(pattern=NAME, description="of its own in the tenant")]
    runs: Runs
    paused: bool = Field(default=False, description="make it, but let nothing run yet")


class ScheduleChange(Sent):
    """What is to be different; what is not named stays, and null is the default."""

    cron: str | None = Field(default=None, max_length=200)
    timezone: str | None = Field(default=None, max_length=60)
    runs: Runs | None = None
    inject: dict[Pointer, TickWord] | None = Field(default=None, max_length=32)
    overlap: Literal["skip", "queue", "allow", "replace"] | None = None
    max_queued: int | None = Field(default=None, ge=1, le=100)
    misfire: Literal["run_once", "skip", "catch_up"] | None = None
    max_catch_up: int | None = Field(default=None, ge=1, le=100)
    grace_s: int | None = Field(default=None, ge=60, le=7 * 86400)
    jitter_s: int | None = Field(default=None, ge=0, le=3600)
    start_at: Moment | None = None
    end_at: Moment | None = None


class Fire(BaseModel):
    """One tick and what became of it."""

    tick: datetime = Field(description="the time that the rule names")
    due_at: datetime = Field(description="with its jitter")
    state: Literal["waiting", "ran", "skipped"]
    reason_code: SkipReason | None
    reason: str | None
    triggered: bool = Field(description="by a person, not by the rule")
    version: int = Field(description="of the schedule")
    request: str | None
    batch: str | None
    decided_at: datetime | None


class ScheduleUrls(BaseModel):
    self: str
    fires: str
    trigger: str
    pause: str
    resume: str


class Schedule(BaseModel):
    """A cron rule that starts requests or batches."""

    id: str
    object: Literal["schedule"]
    name: str
    version: int
    state: Literal["active", "paused", "ended"]
    cron: str
    timezone: str
    runs: dict[str, Any] = Field(description="`request` or `batch`, as it was given; the URL of a webhook is hidden")
    inject: dict[str, TickWord]
    overlap: Literal["skip", "queue", "allow", "replace"]
    max_queued: int
    misfire: Literal["run_once", "skip", "catch_up"]
    max_catch_up: int
    grace_s: int
    jitter_s: int
    start_at: datetime | None
    end_at: datetime | None
    next_fires: list[datetime] = Field(description="the next five")
    last_fire: Fire | None
    created_at: datetime
    updated_at: datetime
    urls: ScheduleUrls


class SchedulePage(BaseModel):
    """By name."""

    data: list[Schedule]
    has_more: bool
    next_cursor: str | None


class FirePage(BaseModel):
    """Past ticks, newest first, and the next five."""

    data: list[Fire]
    next_fires: list[datetime]
    has_more: bool
    next_cursor: str | None
