"""What the rooms of the client share: one way to call the service. Knows no operation of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.client.transport import Answer, Call, Transport


class Caller:
    """Whoever calls through one transport."""

    def __init__(self, transport: Transport, sleep: Callable[[float], None]) -> None:
        self._transport = transport
        self._sleep = sleep

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        repeatable: bool = True,
    ) -> Answer:
        return self._transport.send(
            Call(
                method=method,
                path=path,
                params=params or {},
                body=body,
                headers=headers or {},
                wait_s=wait_s,
                repeatable=repeatable,
            )
        )
