"""Who calls: the bearer token of every public route, looked up by its hash and remembered for a few seconds.

At the door of Kubeflow's gateway it is whom the gateway names instead (gateway.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Request, Response, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from orchestrator.api import gateway
from orchestrator.api.body import StrictRoute
from orchestrator.api.doors import Door, door_of
from orchestrator.api.office import Office, office
from orchestrator.api.parameters import check_query, known_to
from orchestrator.domain.access import VERBS, Identity, Permission
from orchestrator.errors import Forbidden, Unauthorized
from orchestrator.store import tokens
from orchestrator.store.tokens import SCOPE_OF

REMEMBERED_S = 5.0
_MOST_REMEMBERED = 10_000
_known: dict[bytes, tuple[float, Identity]] = {}


def bearer(request: Request) -> str:
    """The token of the Authorization header. Raises Unauthorized."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("send `Authorization: Bearer <token>`; `muster token create` makes one")
    return token.strip()


async def admit(request: Request, here: Office) -> None:
    """Note who calls, and how to ask that again while the answer goes on. Raises Unauthorized."""
    if door_of(request.scope) is Door.GATEWAY:
        await gateway.admit(request, here)
        return
    request.state.credential = tokens.digest(bearer(request))
    request.state.ask_again = partial(identify, request, here)
    request.state.identity = await identify(request, here)


async def identify(request: Request, here: Office) -> Identity:
    """The bearer of a good token. Raises Unauthorized."""
    token = bearer(request)
    digest = tokens.digest(token)
    if (known := _remembered(digest)) is not None:
        return known
    found = await here.transact(lambda tx: tokens.identify(tx, token))
    if found is None:
        _known.pop(digest, None)
        raise Unauthorized("this token is unknown, expired or revoked")
    identity, expires_at = found
    _remember(digest, identity, expires_at)
    return identity


def known(token: str | None, permission: Permission) -> Identity | None:
    """Whose token it is, without a look at the database, if it was good a moment ago and has the permission."""
    identity = _remembered(tokens.digest(token)) if token else None
    return identity if identity is not None and identity.may(permission) else None


def _remembered(digest: bytes) -> Identity | None:
    until, identity = _known.get(digest, (0.0, None))
    return identity if until > time.monotonic() else None


def _remember(digest: bytes, identity: Identity, expires_at: datetime | None) -> None:
    if len(_known) >= _MOST_REMEMBERED:
        _known.clear()
    left = (expires_at - datetime.now(UTC)).total_seconds() if expires_at else REMEMBERED_S
    _known[digest] = (time.monotonic() + min(REMEMBERED_S, left), identity)


def forget_all() -> None:
    """After a token was revoked on this replica."""
    _known.clear()


class GuardedRoute(StrictRoute):
    """A route of the public API: the token is looked at before a byte of the body is read, and then the query."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()
        known = known_to(self.dependant)
        families = getattr(self.endpoint, "families", ())

        async def guarded(request: Request) -> Response:
            await admit(request, request.app.state.office)
            check_query(request, known, families)
            return await inner(request)

        return guarded


class WorkerRoute(StrictRoute):
    """A route of the worker API: whoever brings no credential learns nothing, not even what a good path is."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            bearer(request)
            return await inner(request)

        return guarded


class Requires(SecurityBase):
    """A dependency of guarded routes: the caller's identity, if it has the permission."""

    model = HTTPBearer(description="`muster token create` makes one; the list names the scope that it needs")
    scheme_name = "token"

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, request: Request) -> Identity:
        identity: Identity = request.state.identity
        require(identity, self.permission)
        return identity


def require(identity: Identity, permission: Permission) -> None:
    """Raises Forbidden, with what is lacking."""
    if identity.may(permission):
        return
    if identity.user is None:
        raise Forbidden(f"this token lacks the scope `{SCOPE_OF[permission]}`")
    verbs = " and ".join(VERBS.get(permission, ()))
    if not verbs:
        raise Forbidden("tokens and metrics are not to be had through Kubeflow's gateway")
    where = repr(identity.tenant)
    if permission is Permission.MANAGE and identity.gangs_in is not None:
        where += f" and in {identity.gangs_in!r}, where its gangs run"
    raise Forbidden(f"{identity.name} may not {verbs} PyTorchJobs in the namespace {where}: ask its owner")


def _needs(permission: Permission) -> Any:
    return Security(Requires(permission), scopes=[SCOPE_OF[permission].value])


Reader = Annotated[Identity, _needs(Permission.SEE)]
Submitter = Annotated[Identity, _needs(Permission.SUBMIT)]
Canceler = Annotated[Identity, _needs(Permission.CANCEL)]
Steerer = Annotated[Identity, _needs(Permission.STEER)]
Manager = Annotated[Identity, _needs(Permission.MANAGE)]
Administrator = Annotated[Identity, _needs(Permission.ADMINISTER)]
Here = Annotated[Office, Depends(office)]
