"""Who calls through Kubeflow's gateway: the user that it names, in the namespace that is asked for.

For calls of the gateway's door alone (doors.py). The gateway verified the login, or the token of a ServiceAccount.
"""

from __future__ import annotations

import re
from functools import partial

from starlette.datastructures import Headers
from starlette.requests import Request

from orchestrator.api import csrf
from orchestrator.api.office import Office
from orchestrator.domain import access
from orchestrator.domain.access import Identity, Permission, User
from orchestrator.errors import Invalid, Unauthorized
from orchestrator.settings import Settings
from orchestrator.store import tenants

NAMESPACE = "Muster-Namespace"
_PEERS = "x-forwarded-client-cert"
_URI = re.compile(r"(?:^|[,;])URI=\"?([^,;\"]*)", re.IGNORECASE)
_SPIFFE = "spiffe://"


async def admit(request: Request, here: Office) -> None:
    """Of a call of the API. Raises Unauthorized, Forbidden, Invalid or Unavailable."""
    user = user_of(request.headers, here.settings)
    csrf.check(request)
    await enter(request, here, user, _namespace(request, here, user))


async def enter(request: Request, here: Office, user: User, namespace: str) -> Identity:
    """The user in a namespace, which becomes a tenant with the first call that may put something there."""
    identity = await here.access.identity(user, namespace)
    request.state.identity = identity
    request.state.credential = (user, namespace)
    request.state.ask_again = partial(_look_again, here, user, namespace)
    puts = identity.may(Permission.SUBMIT) or identity.may(Permission.MANAGE)
    if csrf.changes(request) and puts and namespace not in here.access.entered:
        await here.transact(lambda tx: tenants.enter(tx, namespace))
        here.access.entered.add(namespace)
    return identity


async def _look_again(here: Office, user: User, namespace: str) -> Identity:
    """While an answer goes on. Raises Unauthorized once the user may not see it any more."""
    identity = await here.access.identity(user, namespace)
    if not identity.may(Permission.SEE):
        raise Unauthorized(f"{user.name} may not see the namespace {namespace!r} any more")
    return identity


def user_of(headers: Headers, settings: Settings) -> User:
    """Whom the gateway names. Raises Unauthorized."""
    if settings.gateway_principal and peer(headers) != settings.gateway_principal:
        raise Unauthorized("this call did not come through the gateway (MUSTER_GATEWAY_PRINCIPAL)")
    names = headers.getlist(settings.userid_header)
    if len(names) != 1:
        raise Unauthorized(f"the gateway names no user (`{settings.userid_header}`): log in")
    groups = ",".join(headers.getlist(settings.groups_header)).split(",")
    return access.user(names[0].removeprefix(settings.userid_prefix), (group.strip() for group in groups))


def peer(headers: Headers) -> str | None:
    """Who the mesh's proxy says is at the other end of the connection.

    It appends that to what the caller said, which may be anything at all: only what stands last is its own word, and
    where that names nobody (a certificate without a SPIFFE ID) nobody is named.
    """
    said = _URI.findall(",".join(headers.getlist(_PEERS)))
    found = said[-1] if said else ""
    return found.removeprefix(_SPIFFE) or None if found.startswith(_SPIFFE) else None


def _namespace(request: Request, here: Office, user: User) -> str:
    asked = request.headers.getlist(NAMESPACE)
    namespace = asked[0] if len(asked) == 1 else None if asked else user.home or here.access.only()
    if namespace is None or not access.is_namespace(namespace):
        raise Invalid(
            f"say for which namespace you call, in the header {NAMESPACE} (MUSTER_NAMESPACE)", code="no_namespace"
        )
    return namespace
