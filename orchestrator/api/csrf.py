"""Was a call meant by whom it comes from? As the apps that come with Kubeflow ask it: a cookie, repeated in a header.

A browser sends a session along with every call, also with one that a page of another site made. Such a page can neither
read our cookie nor set a header, so a call that says the cookie's value again comes from a page of ours.

A call without any cookie has no session that could be abused: that is how programs call. That it bears a token does
not count, since the proxy that logs people in turns their session into one before the call comes here.
"""

from __future__ import annotations

import hmac
import secrets

from starlette.requests import Request

from orchestrator.errors import Forbidden

COOKIE = "XSRF-TOKEN"
HEADER = "X-XSRF-TOKEN"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_BROWSERS = ("cookie", "origin", "sec-fetch-site")
_SHORTEST = 22


def changes(request: Request) -> bool:
    """Whether the call's method may change something."""
    return request.method not in _SAFE


def check(request: Request) -> None:
    """Of a call that may come from a program. Raises Forbidden."""
    if any(name in request.headers for name in _OF_BROWSERS):
        prove(request)


def prove(request: Request) -> None:
    """Of a call that a page of ours must have made, if it may change something. Raises Forbidden."""
    known, said = request.cookies.get(COOKIE, ""), request.headers.get(HEADER, "")
    if changes(request) and (not is_good(known) or not hmac.compare_digest(known.encode(), said.encode())):
        raise Forbidden(f"the cookie {COOKIE} must be repeated as {HEADER}: load the page again", code="csrf")


def new() -> str:
    """A value for a browser that has none."""
    return secrets.token_urlsafe(24)


def is_good(value: str) -> bool:
    """Whether it is long enough not to be guessed."""
    return len(value) >= _SHORTEST
