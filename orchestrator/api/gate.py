"""The first look at a call: was it meant for us, and not sent by somebody else's page?

A page in a browser can reach a service on loopback by a name that its owner points there (DNS rebinding). Such a call
carries that name as Host. A literal address is never rebound, so addresses are good and names must be known.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.api.problems import problem
from orchestrator.settings import Settings

ANY = "*"


def names(settings: Settings) -> frozenset[str]:
    """Under which this service may be called: loopback, where it listens, its URLs, what the operator adds."""
    urls = (urlsplit(url).hostname or "" for url in settings.api_urls)
    return frozenset(name.lower().rstrip(".") for name in ("localhost", settings.host, *urls, *settings.hosts) if name)


@lru_cache(maxsize=1000)
def is_ours(host: str, known: frozenset[str]) -> bool:
    """Whether a Host header (name or address, with or without port) names this service."""
    name = _name(host)
    if name is None:
        return False
    try:
        ip_address(name)
    except ValueError:
        return ANY in known or _is_named(name, known)
    return True


def _is_named(name: str, known: Iterable[str]) -> bool:
    return any(name == one or (one.startswith("*.") and name.endswith(one[1:])) for one in known)


def _name(host: str) -> str | None:
    """Without port and brackets; None for what is no host."""
    try:
        parsed = urlsplit(f"//{host}")
        _ = parsed.port
    except ValueError:
        return None
    if parsed.path or parsed.query or parsed.fragment or parsed.username is not None:
        return None
    return (parsed.hostname or "").rstrip(".") or None


class Gate:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, known: frozenset[str], pages: frozenset[str]) -> None:
        """`known`: names of the service; `pages`: of sites whose pages may call it beside its own."""
        self._app, self._known, self._pages = app, known, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            host, origin = headers.get(b"host"), headers.get(b"origin")
            if host is not None and not is_ours(host.decode("latin-1"), self._known):
                answer = problem(421, "misdirected", "no service of this name is here: see MUSTER_HOSTS")
                return await answer(scope, receive, send)
            if origin is not None and not self._may_call(origin.decode("latin-1"), host):
                answer = problem(403, "foreign_origin", "pages of other sites may not call this service")
                return await answer(scope, receive, send)
        return await self._app(scope, receive, send)

    def _may_call(self, origin: str, host: bytes | None) -> bool:
        scheme, _, site = origin.partition("://")
        if scheme not in ("http", "https"):
            return False
        return site.encode("latin-1") == host or _is_named(_name(site) or "", self._pages)
