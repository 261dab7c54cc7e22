"""Up to three doors to one application, each a port: everybody's, that of workers, that of Kubeflow's gateway.

Pods, which may run anybody's model, reach nothing but the worker API. Whoever comes to the gateway's door is believed
when it names a user, so nobody but the gateway may reach that port, and nothing is believed at another one. Which door
a call came through is the address of its socket; headers do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.api.problems import problem
from orchestrator.settings import Settings


class Door(StrEnum):
    PUBLIC = "public"
    WORKERS = "workers"
    GATEWAY = "gateway"


_MARK = "muster.door"
_ALL = ("/healthz", "/readyz")
_WORKERS = "/internal/"
_OPERATORS = "/metrics"
"""They tell of the whole installation, and the gateway's users are each of a namespace."""


def of_ports(settings: Settings) -> Mapping[int, Door]:
    """The doors that have a port of their own."""
    ports = ((settings.worker_port, Door.WORKERS), (settings.gateway_port, Door.GATEWAY))
    return {port: door for port, door in ports if port is not None}


def door_of(scope: Scope) -> Door:
    """Through which door a call came."""
    door: Door = scope.get(_MARK, Door.PUBLIC)
    return door


class Doors:
    """ASGI middleware. A path that belongs to another door is not found, as if there were none of that name."""

    def __init__(self, app: ASGIApp, ports: Mapping[int, Door]) -> None:
        self._app = app
        self._ports = ports
        self._of_workers = Door.WORKERS if Door.WORKERS in ports.values() else Door.PUBLIC

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            _, port = scope.get("server") or ("", None)
            door = scope[_MARK] = self._ports.get(port or 0, Door.PUBLIC)
            if not self._is_at(scope["path"], door):
                await problem(404, "not_found", "Not Found")(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_at(self, path: str, door: Door) -> bool:
        if path in _ALL:
            return True
        if path.startswith(_WORKERS):
            return door is self._of_workers
        match door:
            case Door.WORKERS:
                return False
            case Door.GATEWAY:
                return path != _OPERATORS
            case Door.PUBLIC:
                return True
