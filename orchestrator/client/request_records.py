"""What is told of a request: itself, what it is made of, and what it left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.client.records import Record


@dataclass(frozen=True, kw_only=True)
class Placement(Record):
    kind: str
    reason: str | None = None
    gang: str | None = None
    ranks: int | None = None
    first_rank: int | None = None


@dataclass(frozen=True, kw_only=True)
class Progress(Record):
    phase: str | None = None
    current: float | None = None
    total: float | None = None
    fraction: float | None = None
    eta_s: float | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Output(Record):
    name: str
    media_type: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    expires_at: datetime | None = None
    expired: bool = False
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class File(Record):
    """An upload: give its ID where an input wants a file."""

    id: str
    name: str
    bytes: int
    sha256: str
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Failure(Record):
    """Why a request failed. `rank` and `node` name the root cause, not the loudest rank."""

    code: str
    message: str | None = None
    retryable: bool | None = None
    rank: int | None = None
    node: str | None = None
    attempt: int | None = None
    phase: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, kw_only=True)
class Request(Record):
    id: str
    status: str
    is_terminal: bool
    version: int | None = None
    template: str | None = None
    template_version: int | None = None
    mode: str | None = None
    placement: Placement | None = None
    phase: str | None = None
    waiting: str | None = None
    progress: Progress | None = None
    attempt: int | None = None
    max_attempts: int | None = None
    priority: int | None = None
    retry_of: str | None = None
    input: Any = None
    batch: str | None = None
    custom_id: str | None = None
    labels: Mapping[str, Any] | None = None
    result: Any = None
    outputs: tuple[Output, ...] | None = None
    error: Failure | None = None
    metrics: Mapping[str, Any] | None = None
    created_at: datetime | None = None
    assigned_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"


@dataclass(frozen=True, kw_only=True)
class Validation(Record):
    """What would become of a request. `starts_in_s` is a guess, None without experience."""

    template: str
    template_version: int | None = None
    mode: str | None = None
    input: Any = None
    placement: Placement | None = None
    starts_in_s: float | None = None
    timeout_s: float | None = None
    max_attempts: int | None = None


@dataclass(frozen=True, kw_only=True)
class LogChunk(Record):
    """Some lines of one rank; `at` by the pod's clock."""

    rank: int
    text: str
    attempt: int | None = None
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Event(Record):
    seq: int
    move: str
    at: datetime | None = None
    data: Any = None
