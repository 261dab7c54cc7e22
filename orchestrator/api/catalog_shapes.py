"""What /v1/templates, /v1/pools and /v1/gangs answer, as types; beside shapes.py."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.domain import template


class TemplateSpec(template.Template):
    """What a template says."""


class TemplateDraft(TemplateSpec):
    """A template to register: the path says its name, and a script brings its own handler."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.pop("required", None) and None)


class Template(BaseModel):
    """The current version of a template."""

    name: str
    object: Literal["template"]
    version: int
    created_at: datetime
    spec: TemplateSpec


class TemplatePage(BaseModel):
    data: list[Template]
    has_more: bool
    next_cursor: str | None


class Pool(BaseModel):
    """How many warm gangs of a template are kept, and how many there are."""

    name: str
    object: Literal["pool"]
    template: str
    template_version: int
    min: int
    max: int
    idle_timeout_s: float
    queued: int
    gangs: dict[str, int]
    held: str | None = Field(description="why no gang is started for now")


class PoolPage(BaseModel):
    data: list[Pool]
    has_more: bool
    next_cursor: str | None


class Rank(BaseModel):
    """One rank of a gang and its last step."""

    rank: int
    node: str | None
    pid: int | None
    device: str | None
    ready: bool
    step: int | None
    rss_bytes: int | None


class Replica(BaseModel):
    """A part of a gang that runs requests of its own: `ranks` from `first_rank` on."""

    number: int
    first_rank: int
    ranks: int
    request: str | None


class Gang(BaseModel):
    """One launched set of ranks."""

    id: str
    object: Literal["gang"]
    name: str
    template: str
    template_version: int
    mode: Literal["serve", "batch"]
    backend: str
    state: Literal["planned", "launching", "loading", "idle", "busy", "draining", "gone"]
    reason: str | None
    reason_code: str | None
    world: int
    nodes: int
    incarnation: int
    ranks: list[Rank]
    request: str | None = Field(description="what it runs; of several replicas: what the first of them runs")
    replicas: list[Replica]
    for_request: str | None
    for_batch: str | None
    served: int
    planned_at: datetime
    launched_at: datetime | None
    scheduled_at: datetime | None = Field(description="of pods: when the last of this incarnation got its machine")
    started_at: datetime | None = Field(description="of pods: when the last container of this incarnation began to run")
    ready_at: datetime | None
    idle_since: datetime | None
    gone_at: datetime | None
    launch_seconds: dict[str, float]
    link: dict[str, float] | None


class GangPage(BaseModel):
    data: list[Gang]
    has_more: bool
    next_cursor: str | None
