"""The HTTP server of a replica: uvicorn over our guarded protocol, on a thread of ours."""

from __future__ import annotations

import contextlib
import math
import resource
import socket
from dataclasses import replace
from functools import partial
from typing import Any, cast

import uvicorn

from orchestrator.api.office import Office
from orchestrator.api.wire.house import House
from orchestrator.api.wire.limits import Limits
from orchestrator.api.wire.protocol import GuardedProtocol
from orchestrator.web import site

BACKLOG = 4096
OWN_FILES = 256
"""Kept for the database, gangs, files that are served."""


class Server(uvicorn.Server):
    """Uvicorn on a thread of ours; parked polls are answered before it waits for open requests."""

    def __init__(self, office: Office) -> None:
        limits = _within_files(Limits.of(office.settings))
        self.house = House(connections=limits.connections, idle=limits.idle)
        super().__init__(
            uvicorn.Config(
                site.application(office),
                http=cast(Any, partial(GuardedProtocol, limits=limits, house=self.house)),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=math.ceil(office.settings.keep_alive.total_seconds()),
                timeout_graceful_shutdown=10,
                backlog=BACKLOG,
            )
        )
        self._hub = office.hub

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hub.close()
        await super().shutdown(sockets)


def _within_files(limits: Limits) -> Limits:
    """Each connection is a file, and the process needs some for itself: those are taken from the connections."""
    with contextlib.suppress(ValueError, OSError):  # macOS has a bound below what it calls the hard one
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=max(1, min(limits.connections, files - OWN_FILES)))
