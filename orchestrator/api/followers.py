"""Those who follow something for long: what their answer is made of, and how they wait.

A follower costs an entry in the hub and a task; no thread and no connection to the database while it waits.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from orchestrator.api.hub import Waiter, wait_for
from orchestrator.api.office import Office
from orchestrator.domain.access import Identity

HEARTBEAT_S = 15.0
"""Silence after which a comment is sent, so that nobody between us and the reader takes the stream for dead."""


class Stream(StreamingResponse):
    """An answer that goes on; it counts as a call that is held open until it ends, however it ends."""

    def __init__(self, here: Office, identity: Identity, parts: AsyncIterator[bytes], media_type: str) -> None:
        """Raises TooMany `too_many_waits`."""
        parked = here.admission.parked(identity.tenant)
        parked.__enter__()
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"}
        super().__init__(parts, media_type=media_type, headers=headers)
        self._parked = parked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._parked.__exit__(None, None, None)


class Vigil:
    """One follower's waiting: for news, until its silence lasted too long, while its token is good."""

    def __init__(self, here: Office, http: Request, woken: Waiter) -> None:
        self._here, self._http, self._woken = here, http, woken
        self._silent_since = self._checked = time.monotonic()

    def spoke(self) -> None:
        self._silent_since = time.monotonic()

    async def news(self, within_s: float = HEARTBEAT_S) -> bool:
        """True if something happened; False if it is time to say that nothing did, or `within_s` is over."""
        left = self._silent_since + HEARTBEAT_S - time.monotonic()
        return await wait_for(self._woken, min(left, within_s))

    @property
    def too_silent(self) -> bool:
        return time.monotonic() - self._silent_since >= HEARTBEAT_S

    async def check(self) -> None:
        """Raises Unauthorized some seconds after what let the caller in was revoked or expired."""
        if time.monotonic() - self._checked >= HEARTBEAT_S:
            self._checked = time.monotonic()
            asking = self._http.state
            await self._here.sharing(("credential", asking.credential), asking.ask_again)
