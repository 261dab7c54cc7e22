"""Who looks at a page, and the proof that a change was asked for by one of our pages.

Inside Kubeflow the gateway says who it is. Everywhere else a browser has a session, a signed cookie with the ID of a
token: revoking the token ends it, and nothing is stored for it. A change needs the value of the cookie `XSRF-TOKEN`
once more in a header, as Kubeflow's own pages do it: only a page of this site can read the one to send the other.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Request, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer

from orchestrator.api import csrf, gateway
from orchestrator.api.auth import require
from orchestrator.api.office import Office
from orchestrator.domain.access import Identity, Permission
from orchestrator.errors import Unauthorized
from orchestrator.store import tokens
from orchestrator.web.frame.choosing import ALL, Undecided, chosen, is_inside, visible

SESSION = "muster_session"
SESSION_LASTS_S = 12 * 3600
REMEMBERED_S = 5.0
_MOST_REMEMBERED = 10_000
_known: dict[str, tuple[float, Identity]] = {}


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Somebody with a browser."""

    identity: Identity
    name: str
    """As the page greets them."""

    @property
    def tenant(self) -> str:
        return self.identity.tenant

    def may(self, permission: str) -> bool:
        """Whether to show what needs it (see, submit, cancel, steer, manage); `allow` is asked before it is done."""
        return self.identity.may(Permission(permission))

    def allow(self, permission: Permission) -> Identity:
        """Raises Forbidden."""
        require(self.identity, permission)
        return self.identity


def office(request: Request) -> Office:
    found: Office = request.app.state.office
    return found


# ------------------------------------------------------------------------------------------------------------- sessions


async def _signer(here: Office) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(await here.secret("session"), salt="muster.session")


async def open_session(request: Request, token: str, response: Response) -> None:
    """Let the browser in whose owner has the token. Raises Unauthorized."""
    here = office(request)
    found = await here.look(lambda tx: tokens.identify(tx, token))
    if found is None:
        raise Unauthorized("this token is unknown, expired or revoked")
    signed = (await _signer(here)).dumps(found[0].name)
    _set(request, response, SESSION, signed, hidden=True)


def close_session(request: Request, response: Response) -> None:
    response.delete_cookie(SESSION, path=cookie_path(request))


async def identify(cookie: str, here: Office) -> Identity:
    """Whose session it is. Raises Unauthorized."""
    known = _known.get(cookie)
    if known is not None and known[0] > time.monotonic():
        return known[1]
    try:
        token_id = str((await _signer(here)).loads(cookie, max_age=SESSION_LASTS_S))
    except BadSignature:
        raise Unauthorized("this session is over") from None
    identity = await here.look(lambda tx: tokens.bearer_of(tx, token_id))
    if identity is None:
        _known.pop(cookie, None)
        raise Unauthorized("the token of this session has expired or was revoked")
    if len(_known) >= _MOST_REMEMBERED:
        _known.clear()
    _known[cookie] = (time.monotonic() + REMEMBERED_S, identity)
    return identity


async def visitor(request: Request) -> Visitor:
    """Whoever has a session. Raises Unauthorized, which leads to the page that asks for a token, or Forbidden."""
    found = await (_from_gateway if is_inside(request) else _of_session)(request)
    found.allow(Permission.SEE)
    return found


async def _from_gateway(request: Request) -> Visitor:
    """Raises Undecided, which leads to the page of namespaces."""
    here = office(request)
    user = gateway.user_of(request.headers, here.settings)
    namespace = chosen(request) or next(iter(await visible(here, user)), ALL)
    if namespace == ALL:
        raise Undecided("choose a namespace first")
    identity = await gateway.enter(request, here, user, namespace)
    return Visitor(identity=identity, name=namespace)


async def _of_session(request: Request) -> Visitor:
    here, cookie = office(request), request.cookies.get(SESSION)
    if not cookie:
        raise Unauthorized("sign in first")
    identity = await identify(cookie, here)
    request.state.identity = identity
    request.state.credential = cookie
    request.state.ask_again = partial(identify, cookie, here)
    return Visitor(identity=identity, name=identity.tenant)


Guest = Annotated[Visitor, Depends(visitor)]
Here = Annotated[Office, Depends(office)]


def prefix_of(request: Request) -> str:
    """What the browser's paths begin with. Where Kubeflow's gateway has a door, nobody else's do."""
    settings = office(request).settings
    return settings.page_prefix if is_inside(request) or settings.gateway_port is None else ""


def cookie_path(request: Request) -> str:
    return f"{prefix_of(request)}/"


def _set(request: Request, response: Response, name: str, value: str, *, hidden: bool) -> None:
    """`hidden`: no script may read it."""
    settings = office(request).settings
    response.set_cookie(
        name,
        value,
        max_age=SESSION_LASTS_S if hidden else None,
        path=cookie_path(request),
        httponly=hidden,
        secure=settings.secure_cookies or settings.public_url.startswith("https://"),
        samesite="lax" if hidden else "strict",  # lax: a link from a chat leads to the page, not to the sign-in
    )


# ------------------------------------------------------------------------------------------------- who asks for changes


def proof(request: Request) -> str:
    """What forms of this page send back: of the browser's cookie, or for a new one."""
    given = request.cookies.get(csrf.COOKIE, "")
    if not csrf.is_good(given):
        given = getattr(request.state, "xsrf", None) or csrf.new()
        request.state.xsrf = given
    return given


def keep_proof(request: Request, response: Response) -> None:
    """Give the browser the cookie that goes with `proof`, if it has none."""
    if (made := getattr(request.state, "xsrf", None)) is not None:
        _set(request, response, csrf.COOKIE, made, hidden=False)


async def prove(request: Request) -> None:
    """Before anything is changed. Raises Forbidden."""
    csrf.prove(request)
