"""The short way of the calls that come most: what is plain about them is looked at here, and FastAPI never sees them.

Walking the routers, two stacks for each call and the solving of its dependencies are half of what a submit costs. A
call that is not plain in every respect (a header twice, a body in pieces, a word that does not fit) goes the long way
with nothing lost: only that one knows what is wrong with a call, so both answer the same.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.api import problems
from orchestrator.api.body import LARGE_BODY, parse
from orchestrator.api.doors import Door, door_of
from orchestrator.api.office import Office
from orchestrator.errors import Invalid, MusterError

M = TypeVar("M", bound=BaseModel)

_ID = re.compile(r"(?<=/)(?:att|gng)_[0-9a-z]{26}(?=/)")
_JSON = frozenset({b"application/json", b"application/json; charset=utf-8"})
_ODD = (b"content-encoding", b"transfer-encoding", b"prefer", b"expect", b"cookie", b"origin")
"""Headers that a plain call does not have."""


class Call:
    """A call with each header once."""

    def __init__(self, subject: str, query: bytes, headers: Mapping[bytes, bytes], receive: Receive) -> None:
        """`subject`: the ID in its path, if there is one."""
        self.subject, self.query, self.headers = subject, query, headers
        self._receive = receive
        self._first: Message | None = None

    @property
    def token(self) -> str | None:
        """The bearer token."""
        scheme, _, token = self.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    async def read(self, model: type[M]) -> M | None:
        """Its body, if it is short, comes in one piece, and is JSON that fits the model."""
        if self.headers.get(b"content-type") not in _JSON or int(self.headers.get(b"content-length", 0)) > LARGE_BODY:
            return None
        self._first = first = await self._receive()
        if first["type"] != "http.request" or first.get("more_body", False):
            return None
        try:
            return model.model_validate(parse(first["body"]))
        except (Invalid, ValidationError):
            return None

    async def again(self) -> Message:
        """For whoever takes the call over: what came, from the beginning."""
        first, self._first = self._first, None
        return first if first is not None else await self._receive()


Plain = Callable[[Office, Call], Awaitable[Response | None]]
"""Answers a call, or says None: it is not plain. Nothing may have been done by then."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One operation. Stands for its route wherever somebody asks which route a call took."""

    method: str
    path: str
    """As its route has it: at most one part in braces, an ID."""
    plain: Plain


class Lane:
    """ASGI middleware, the innermost one."""

    def __init__(self, app: ASGIApp, office: Office, ways: Iterable[Way]) -> None:
        self._app = app
        self._office = office
        self._ways = {(way.method, *re.split(r"\{\w+\}", way.path)): way for way in ways}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plain = scope["type"] == "http" and door_of(scope) is not Door.GATEWAY  # there, no token says who calls
        way, subject = self._way(scope) if plain else (None, "")
        if way is None:
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        if len(headers) < len(scope["headers"]) or any(name in headers for name in _ODD):
            return await self._app(scope, receive, send)
        call = Call(subject, scope["query_string"], headers, receive)
        if (answer := await self._answer(way, call)) is None:
            return await self._app(scope, call.again, send)
        scope["route"] = way
        return await answer(scope, receive, send)

    def _way(self, scope: Scope) -> tuple[Way | None, str]:
        method, path = scope["method"], scope["path"]
        if found := _ID.search(path):
            return self._ways.get((method, path[: found.start()], path[found.end() :])), found.group()
        return self._ways.get((method, path)), ""

    async def _answer(self, way: Way, call: Call) -> Response | None:
        try:
            return await way.plain(self._office, call)
        except MusterError as error:
            return problems.of(error)
