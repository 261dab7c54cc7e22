"""What the ranks of a gang may say, with its bounds: a value that the database could not hold is refused here (422).

A worker repeats what was answered with 5xx, for ever while it holds a result: nothing it says may become one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, field_validator

GangId = Annotated[str, Path(pattern=r"^gng_[0-9a-z]{26}$")]
AttemptId = Annotated[str, Path(pattern=r"^att_[0-9a-z]{26}$")]
MOST_SLOTS = 1024
SlotNumber = Annotated[int, Field(ge=0, lt=MOST_SLOTS)]
"""Which replica of the gang speaks."""
RankNumber = Annotated[int, Path(ge=0, le=65535)]

Text = Annotated[str, Field(max_length=4096)]
LongText = Annotated[str, Field(max_length=1 << 16)]
Trace = Annotated[str, Field(max_length=1 << 18)]
Integer = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Duration = Annotated[float, Field(ge=0, le=366 * 86400)]
Moment = Annotated[float, Field(ge=0, lt=253402300800)]
"""Seconds since 1970, before the year 10000."""


class _Report(BaseModel):
    """Workers may be newer than the service: fields it does not know are left alone."""

    model_config = ConfigDict(extra="ignore")


class Hello(_Report):
    node: Text
    pid: Integer | None = None
    local_rank: Integer | None = None
    device: Text | None = None
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    world: Integer | None = None
    replicas: Integer = 1


class Ready(_Report):
    seconds: dict[Text, float] = Field(default_factory=dict)
    link: dict[Text, float] = Field(default_factory=dict)


class Recall(_Report):
    node: Text


class RankStep(_Report):
    rank: int
    step: int | None = None
    age_s: float | None = None
    rss_bytes: Annotated[int, Field(ge=0, lt=1 << 62)] | None = None
    grown_bytes: Annotated[int, Field(ge=0, lt=1 << 62)] | None = None


class Trail(_Report):
    """The phases of a run: each with its begin, in seconds from that of the run, of which `elapsed_s` are over."""

    elapsed_s: Duration
    phases: list[tuple[Text, Duration]] = Field(max_length=128)


class AttemptBeat(_Report):
    attempt: Text
    token: Text
    phase: Text | None = None
    current: float | None = None
    total: float | None = None
    trail: Trail | None = None


class Beat(_Report):
    slot: SlotNumber = 0
    phase: Text = "idle"
    starting: Text | None = None
    ranks: list[RankStep] = Field(default_factory=list)
    attempts: list[AttemptBeat] = Field(default_factory=list)


class OutputReport(_Report):
    name: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/\x00]+$")]
    media_type: Text = "application/octet-stream"
    bytes: Annotated[int, Field(gt=0, lt=2**63)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    uri: Text


class Fault(_Report):
    """Why a request failed; what a newer worker adds is kept."""

    model_config = ConfigDict(extra="allow")

    code: Text = ""
    message: LongText = ""
    rank: Integer | None = None
    node: Text | None = None
    traceback: Trace | None = None


class FinishReport(_Report):
    token: Text
    slot: SlotNumber = 0
    outcome: Literal["succeeded", "failed", "canceled"]
    result: Any = None
    outputs: list[OutputReport] = Field(default_factory=list, max_length=1000)
    error: Fault | None = None
    metrics: dict[Text, float] = Field(default_factory=dict)
    run_s: Duration = 0.0
    healthy: bool = True
    trail: Trail | None = None

    @field_validator("outputs")
    @classmethod
    def _each_name_once(cls, outputs: list[OutputReport]) -> list[OutputReport]:
        if len({output.name for output in outputs}) < len(outputs):
            raise ValueError("an output is named twice")
        return outputs


class RankStack(_Report):
    rank: Integer
    node: Text
    stack: Annotated[str, Field(max_length=1 << 16)]


class ErrorReport(_Report):
    node: Text
    attempt: Text | None = None
    phase: Text | None = None
    step: Integer | None = None
    type: Text
    message: LongText
    traceback: Trace | None = None
    exiting: bool = False
    code: Text | None = None
    stacks: list[RankStack] = Field(default_factory=list, max_length=4096)


class Leave(_Report):
    rank: Integer
    signal: Integer | None = None
    drained: bool = False


class LogChunk(_Report):
    seq: Integer
    request: Text | None = None
    at: Moment
    text: Annotated[str, Field(max_length=1 << 18)]


class LogReport(_Report):
    rank: Annotated[int, Field(ge=0, lt=2**31)]
    chunks: list[LogChunk] = Field(max_length=1000)
