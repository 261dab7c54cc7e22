"""Measures every call by the template of its route, and has it noted, as the outermost layer of the application."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.api import audit
from orchestrator.metrics import Metrics

UNKNOWN = "none"
"""Paths without a route: whoever sends nonsense makes no new series."""


class Measured:
    """From the first byte of the call to the last of the answer; a caller that goes away is `499`."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 499
        begun = time.perf_counter()

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            route = getattr(scope.get("route"), "path", UNKNOWN)
            self._metrics.called(scope["method"], route, status, time.perf_counter() - begun)
            audit.note(scope, route, status)
