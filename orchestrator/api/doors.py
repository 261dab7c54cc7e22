"""Two doors to one application: workers come to a port of their own, and to no other.

Pods, which may run anybody's model, then reach nothing but the worker API, and whoever reaches the public port (a
gateway that vouches for users, say) cannot reach that one. Which door a call came through is the address of its socket;
headers do not count.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.api.problems import problem

_BOTH = ("/healthz", "/readyz")
_WORKERS = "/internal/"


class Doors:
    """ASGI middleware. A path that belongs to the other door is not found, as if there were none of that name."""

    def __init__(self, app: ASGIApp, worker_port: int) -> None:
        self._app = app
        self._worker_port = worker_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_of_this_door(scope):
            await problem(404, "not_found", "Not Found")(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_of_this_door(self, scope: Scope) -> bool:
        path: str = scope["path"]
        at_workers = (scope.get("server") or ("", None))[1] == self._worker_port
        return path in _BOTH or path.startswith(_WORKERS) == at_workers
