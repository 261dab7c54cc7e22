"""/v1/tokens: who may call."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import Field

from orchestrator.api import auth, shapes, views
from orchestrator.api.auth import Administrator, GuardedRoute, Here
from orchestrator.api.contract import Answer, operation
from orchestrator.domain.strict import Sent
from orchestrator.store import tokens
from orchestrator.store.tokens import Scope

router = APIRouter(prefix="/v1/tokens", tags=["tokens"], route_class=GuardedRoute)


class TokenDraft(Sent):
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
    scopes: Annotated[list[Literal["read", "submit", "admin"]], Field(min_length=1, max_length=3)]
    expires_in_s: float | None = Field(default=None, gt=0, le=3650 * 86400)


@router.post(
    "",
    status_code=201,
    summary="Create a token; it is shown this once",
    **operation("create_token", ok={201: Answer(means="keep `token`", model=shapes.IssuedToken)}),
)
async def create_token(body: TokenDraft, here: Here, identity: Administrator) -> Any:
    expires_in = timedelta(seconds=body.expires_in_s) if body.expires_in_s else None
    scopes = [Scope(scope) for scope in body.scopes]
    token_id, token = await here.transact(
        lambda tx: tokens.create(tx, tenant=identity.tenant, name=body.name, scopes=scopes, expires_in=expires_in)
    )
    return {"id": token_id, "object": "token", "name": body.name, "scopes": body.scopes, "token": token}


@router.get(
    "",
    summary="List tokens",
    **operation("list_tokens", ok={200: Answer(means="without the tokens themselves", model=shapes.TokenPage)}),
)
async def list_tokens(here: Here, identity: Administrator) -> Any:
    rows = await here.transact(lambda tx: tokens.list_all(tx, identity.tenant))
    return {"data": [views.token(row) for row in rows], "has_more": False, "next_cursor": None}


@router.delete(
    "/{token_id}",
    status_code=204,
    summary="Revoke a token",
    **operation("revoke_token", "not_found", ok={204: Answer(means="good for nothing, within seconds everywhere")}),
)
async def revoke_token(
    token_id: Annotated[str, Path(pattern=r"^tok_[0-9a-z]{26}$")], here: Here, identity: Administrator
) -> None:
    await here.transact(lambda tx: tokens.revoke(tx, identity.tenant, token_id))
    auth.forget_all()
