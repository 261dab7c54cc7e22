"""Why a request, a gang or a pool is where it is, as the service told it; docs/rest.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.client.records import Record


@dataclass(frozen=True, kw_only=True)
class Finding(Record):
    """Something that is true of what was asked about. `code` is stable; `figures` are what the sentence says."""

    code: str
    sentence: str
    figures: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Step(Record):
    """Something that can be done now."""

    sentence: str
    command: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cause(Record):
    """Why it failed. `whose` is user, infra or operator."""

    code: str
    whose: str | None = None
    message: str | None = None
    rank: int | None = None
    node: str | None = None
    phase: str | None = None
    step: int | None = None
    traceback: str | None = None
    log: str | None = None


@dataclass(frozen=True, kw_only=True)
class Explanation(Record):
    """Why a request, a gang or a pool is where it is."""

    of: str
    kind: str
    status: str
    summary: str | None = None
    findings: tuple[Finding, ...] = ()
    next: tuple[Step, ...] = ()
    cause: Cause | None = None
