"""The public answers as types, for /openapi.json and the clients that are generated from it.

Only described here: views.py builds them, and the tests hold every answer to these shapes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.domain.states import RequestState

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FieldProblem(BaseModel):
    """One field that does not fit."""

    pointer: str = Field(description="JSON pointer into the body, or the parameter")
    code: str
    message: str


class Problem(BaseModel):
    """A failed call (RFC 9457). `code` is stable: docs/errors.md."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldProblem]
    retryable: bool = Field(description="whether the same call may succeed later")


class Output(BaseModel):
    """A published file: size and sha256 hold."""

    name: str
    media_type: str
    bytes: int
    sha256: Sha256
    url: str
    expires_at: datetime | None = Field(description="until when it is kept; null: for good")
    expired: bool


class Placement(BaseModel):
    """Which path the request took and why."""

    kind: Literal["warm", "batch"]
    reason: str | None
    gang: str | None
    ranks: int | None
    first_rank: int | None = Field(description="the first of its ranks in the gang; a gang may run several requests")


class Progress(BaseModel):
    """Where the handler is."""

    phase: str
    current: float | None
    total: float | None
    fraction: float | None
    eta_s: float | None
    updated_at: datetime | None


class Failure(BaseModel):
    """Why a request failed. `rank` and `node` name the root cause; what else the rank said stands beside."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str
    retryable: bool | None = None
    rank: int | None = None
    node: str | None = None
    phase: str | None = None
    step: int | None = None
    type: str | None = None
    traceback: str | None = None
    log: str | None = None


class Loss(BaseModel):
    """What went wrong in one attempt."""

    attempt: int
    gang: str
    reason: str | None
    message: str | None
    rank: int | None
    node: str | None
    phase: str | None
    step: int | None
    type: str | None
    traceback: str | None
    log: str
    stacks: list[dict[str, Any]]
    at: datetime | None


class Metrics(BaseModel):
    """Where the time went, in seconds; what the handler counted stands beside."""

    model_config = ConfigDict(extra="allow")

    queue_s: float | None
    cold_start_s: float | None
    run_s: float | None
    gpu_seconds: float | None


class RequestUrls(BaseModel):
    """Where the request's parts are."""

    self: str
    cancel: str
    events: str
    logs: str
    outputs: str


class Request(BaseModel):
    """One accepted unit of work."""

    id: str
    object: Literal["request"]
    version: int
    status: RequestState
    is_terminal: bool
    reason: str | None
    template: str
    template_version: int
    mode: Literal["auto", "warm", "batch"]
    placement: Placement
    phase: str | None
    waiting: str | None = Field(description="why it has not started")
    progress: Progress | None
    attempt: int
    max_attempts: int
    priority: int
    retry_of: str | None
    batch: str | None = Field(description="the batch that it is an item of")
    custom_id: str | None = Field(description="its name there")
    input: dict[str, Any]
    labels: dict[str, str]
    result: Any
    outputs: list[Output]
    error: Failure | None
    losses: list[Loss]
    metrics: Metrics
    created_at: datetime
    assigned_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    urls: RequestUrls


class RequestPage(BaseModel):
    """Newest first."""

    data: list[Request]
    has_more: bool
    next_cursor: str | None


class Path(BaseModel):
    """Which path a request would take and why."""

    kind: Literal["warm", "batch"]
    reason: str


class Validation(BaseModel):
    """What would become of a request."""

    object: Literal["validation"]
    template: str
    template_version: int
    mode: Literal["auto", "warm", "batch"]
    input: dict[str, Any] = Field(description="with the defaults of the template's schema")
    placement: Path
    starts_in_s: float | None = Field(description="a guess from recent runs and starts; null: there were none")
    timeout_s: float
    max_attempts: int


class Event(BaseModel):
    """One move of a request."""

    seq: int
    at: datetime
    move: str
    data: dict[str, Any]


class Events(BaseModel):
    data: list[Event]
    has_more: bool


class Outputs(BaseModel):
    data: list[Output]


class File(BaseModel):
    """An upload, good until it expires."""

    id: str
    object: Literal["file"]
    name: str
    bytes: int
    sha256: Sha256
    created_at: datetime
    expires_at: datetime


class Token(BaseModel):
    id: str
    object: Literal["token"]
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class TokenPage(BaseModel):
    data: list[Token]
    has_more: bool
    next_cursor: str | None


class IssuedToken(BaseModel):
    """The one time that the token itself is shown."""

    id: str
    object: Literal["token"]
    name: str
    scopes: list[str]
    token: str


class Health(BaseModel):
    status: Literal["ok"]


class Readiness(BaseModel):
    status: Literal["ok"]
    database: Literal["ok"]
    schema_: str = Field(alias="schema")


class Unready(BaseModel):
    status: Literal["unavailable"]
    database: str = Field(description="what is wrong")
