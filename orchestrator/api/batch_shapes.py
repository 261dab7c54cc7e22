"""What /v1/batches answers, as types; beside shapes.py."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from orchestrator.api.shapes import Request
from orchestrator.api.submission import LabelKey, LabelValue
from orchestrator.domain.states import BatchOutcome, BatchState
from orchestrator.domain.strict import Sent
from orchestrator.domain.wording import spelt

UPLOAD = spelt(r"^fil_[0-9a-z]{26}$", "the ID of an upload, as fil_01k…")
MOST_FAILED = spelt(r"^(\d{1,9}|(\d{1,2}|100)%)$", "a number of items, or a share as 10%")


class BatchOrder(Sent):
    """A batch whose lines are a file or lie in storage. With the lines as the body, these are query parameters."""

    template: Annotated[str, Field(min_length=1, max_length=40)]
    file: Annotated[str, Field(pattern=UPLOAD)] | None = Field(default=None, description="an upload")
    url: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        default=None, description="storage that the operator allows (MUSTER_BATCH_URLS)"
    )
    errors: Literal["strict", "items"] = Field(
        default="strict", description="one bad line refuses the batch, or only itself"
    )
    max_parallel: int | None = Field(default=None, ge=1, le=1000, description="gangs; default: the template's")
    max_failed: Annotated[str, Field(pattern=MOST_FAILED)] | None = Field(
        default=None, description="how many items may fail, or which share of them (`10%`)"
    )
    on_max_failed: Literal["stop", "pause"] = "stop"
    priority: int = Field(default=0, ge=-1000, le=1000, description="minutes by which it goes ahead of others")
    expire_after_s: float | None = Field(default=None, gt=0, le=31 * 86400, description="then no item starts any more")
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=32)


_ONE_SOURCE: JsonDict = {
    "if": {"required": ["file"], "properties": {"file": {"type": "string"}}},
    "then": {"properties": {"url": {"type": "null"}}},
    "else": {"required": ["url"], "properties": {"url": {"type": "string"}}},
}
"""`_one_source` for those who read the schema; not as `oneOf`, of which generators of clients make two types."""


class NamedBatchOrder(BatchOrder):
    """As JSON: where its lines are."""

    model_config = ConfigDict(json_schema_extra=_ONE_SOURCE)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.url is None):
            raise ValueError("give `file` or `url`; or send the lines as the body (application/jsonl)")
        return self


class BatchCounts(BaseModel):
    """Items by where they stand. `refused`: lines that are no items."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    expired: int
    refused: int


class RefusedLine(BaseModel):
    line: int
    custom_id: str | None
    code: str
    message: str
    pointer: str | None


class BatchUrls(BaseModel):
    self: str
    items: str
    results: str
    errors: str
    cancel: str
    pause: str
    resume: str


class Batch(BaseModel):
    """Requests that were sent together."""

    id: str
    object: Literal["batch"]
    version: int
    status: BatchState
    is_terminal: bool
    ending: BatchState | None = Field(description="what comes when nothing of it runs any more")
    outcome: BatchOutcome | None
    reason: str | None
    reason_code: str | None
    template: str
    template_version: int
    source: str | None = Field(description="the file or URL of its lines; null: they came with the call")
    errors: Literal["strict", "items"]
    max_parallel: int
    share_pool: bool = Field(description="its items run on warm gangs too, where nobody waits for those")
    max_failed: str | None
    on_max_failed: Literal["stop", "pause"]
    priority: int
    labels: dict[str, str]
    counts: BatchCounts
    gangs: int
    gpu_seconds: float
    rate_per_s: float | None = Field(description="items that ended per second, over the last minute at most")
    eta_s: float | None
    refusals: list[RefusedLine] = Field(description="the first of them")
    created_at: datetime
    accepted_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    urls: BatchUrls


class BatchPage(BaseModel):
    """Newest first."""

    data: list[Batch]
    has_more: bool
    next_cursor: str | None


class ItemPage(BaseModel):
    """In the order of the lines."""

    data: list[Request]
    has_more: bool
    next_cursor: str | None
