"""GET .../explain of requests, gangs and pools: why it waits, what it does, why it ended, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from orchestrator.api.auth import GuardedRoute, Here, Reader
from orchestrator.api.catalog import GangRef, Name
from orchestrator.api.contract import Answer, operation
from orchestrator.api.parameters import RequestId
from orchestrator.domain import explaining as domain
from orchestrator.store import explaining

router = APIRouter(prefix="/v1", route_class=GuardedRoute)


class Finding(BaseModel):
    """Something that is true of it."""

    code: str = Field(description="stable: docs/cli.md lists them")
    sentence: str
    figures: dict[str, int | float | str | bool | None] = Field(description="what the sentence was made of")


class Step(BaseModel):
    """Something that can be done now."""

    sentence: str
    command: str | None = Field(description="one line of the command line that does it")


class Cause(BaseModel):
    """Why it failed. `rank` is the first that complained."""

    code: str
    whose: Literal["user", "infra", "operator"]
    message: str
    rank: int | None
    node: str | None
    phase: str | None
    step: int | None
    traceback: str | None
    log: str | None = Field(description="the last lines of that rank")


class Explanation(BaseModel):
    """Why something is where it is: findings in the order of their weight, and what to do."""

    object: Literal["explanation"]
    of: str
    kind: Literal["request", "gang", "pool"]
    status: str
    summary: str
    findings: list[Finding]
    next: list[Step]
    cause: Cause | None


_ANSWER = {200: Answer(means="as it is now", model=Explanation)}


@router.get(
    "/requests/{request_id}/explain",
    tags=["requests"],
    summary="Why it waits, or why it failed",
    **operation("explain_request", "not_found", "purged", ok=_ANSWER),
)
async def of_request(request_id: RequestId, here: Here, identity: Reader) -> Any:
    """Codes of findings are stable; other tenants' requests are counted, never named."""
    facts = await here.look(lambda tx: explaining.request(tx, identity.tenant, request_id))
    return _shown(domain.explain_request(*facts))


@router.get(
    "/gangs/{gang}/explain",
    tags=["gangs"],
    summary="What a gang does, or why it ended",
    **operation("explain_gang", "not_found", ok=_ANSWER),
)
async def of_gang(gang: GangRef, here: Here, identity: Reader) -> Any:
    facts = await here.look(lambda tx: explaining.gang(tx, identity.tenant, gang))
    return _shown(domain.explain_gang(*facts))


@router.get(
    "/pools/{name}/explain",
    tags=["pools"],
    summary="Why a pool serves what waits, or does not",
    **operation("explain_pool", "unknown_template", ok=_ANSWER),
)
async def of_pool(name: Name, here: Here, identity: Reader) -> Any:
    facts = await here.look(lambda tx: explaining.pool(tx, identity.tenant, name))
    return _shown(domain.explain_pool(*facts))


def _shown(explanation: domain.Explanation) -> dict[str, Any]:
    return {"object": "explanation", **asdict(explanation)}
