"""`Client`: one method for each thing that docs/rest.md offers; those of requests and of the fleet have their rooms."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import metadata
from typing import TYPE_CHECKING, Self

from orchestrator.client import tracing
from orchestrator.client.batches import Batches
from orchestrator.client.connection import Connection, find
from orchestrator.client.fleet import Fleet
from orchestrator.client.paths import path as _path
from orchestrator.client.paths import records as _records
from orchestrator.client.records import Record
from orchestrator.client.requests import Requests
from orchestrator.client.schedules import Schedules
from orchestrator.client.transport import Call, Transport
from orchestrator.client.webhooks import Webhooks
from orchestrator.errors import Unavailable

if TYPE_CHECKING:
    import httpx

TIMEOUT = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Token(Record):
    """`token` is the secret itself; the service shows it once, in the answer that creates it."""

    id: str
    token: str | None = field(default=None, repr=False)
    name: str | None = None
    scopes: tuple[str, ...] | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Readiness(Record):
    """Whether the service takes work, database included; `raw` holds its own words."""

    ok: bool


class Client(Requests, Fleet):
    """A connection to one service. Not shared between threads; close it, or use it in a `with`."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        namespace: str | None = None,
        timeout: timedelta = TIMEOUT,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        trace: Mapping[str, str] = {},
        refind: Callable[[], Connection] | None = None,
    ) -> None:
        """`timeout` bounds one silence of the network, `retries` the tries after the first.

        `namespace`: for which we call, where Kubeflow's gateway vouches for us. A token of Muster's own has its tenant.
        `trace`: `traceparent` and `tracestate` (W3C Trace Context) for what is recorded through this client; a span of
        OpenTelemetry that is open in this process goes before it.
        `refind`: where the service is now; asked when it is gone or does not know the token (`muster up` started anew).
        """
        line = Transport(
            url,
            token,
            namespace=namespace,
            timeout=timeout,
            retries=retries,
            agent=_agent(),
            inner=transport,
            sleep=sleep,
            trace=trace,
            refind=refind,
        )
        super().__init__(line, sleep)

    @classmethod
    def from_env(cls, url: str | None = None, *, timeout: timedelta = TIMEOUT, retries: int = 4) -> Self:
        """The service of MUSTER_URL, MUSTER_TOKEN and MUSTER_NAMESPACE, else the one that `muster up` runs here.

        TRACEPARENT and TRACESTATE are handed on.
        """
        place = find(url)
        trace = tracing.from_env(os.environ)
        return cls(
            place.url,
            place.token,
            namespace=place.namespace,
            timeout=timeout,
            retries=retries,
            trace=trace,
            refind=lambda: find(url),
        )

    @property
    def url(self) -> str:
        return self._transport.url

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Batches, schedules, webhooks, tokens and the service itself

    @property
    def batches(self) -> Batches:
        """Many requests at once."""
        return Batches(self._transport, self._send, self._sleep)

    @property
    def schedules(self) -> Schedules:
        """What starts by itself."""
        return Schedules(self._send)

    @property
    def webhooks(self) -> Webhooks:
        return Webhooks(self._send)

    def create_token(self, name: str, scopes: Sequence[str], *, expires_in: timedelta | None = None) -> Token:
        """The answer holds the secret; the service does not show it again."""
        expires_in_s = None if expires_in is None else expires_in.total_seconds()
        body = {"name": name, "scopes": [*scopes], "expires_in_s": expires_in_s}
        return Token.read(self._send("POST", "/v1/tokens", body=body, repeatable=False).json())

    def tokens(self) -> tuple[Token, ...]:
        return _records(Token, self._send("GET", "/v1/tokens").json())

    def revoke_token(self, token_id: str) -> None:
        self._send("DELETE", _path("tokens", token_id))

    def ready(self) -> Readiness:
        """Whether the service can take work now; asks once and takes a 503 for an answer."""
        answer = self._transport.send_raw(Call(method="GET", path="/readyz", repeatable=False))
        try:
            said = answer.json()
        except Unavailable:
            said = answer.text()[:200]
        return Readiness(ok=answer.status == 200, raw=said if isinstance(said, dict) else {"said": said})

    def version(self) -> str | None:
        """The version of the service, as its OpenAPI document tells it."""
        document = self._send("GET", "/openapi.json").json()
        info = document.get("info") if isinstance(document, dict) else None
        return str(info["version"]) if isinstance(info, dict) and "version" in info else None


def _agent() -> str:
    try:
        return f"muster/{metadata.version('muster-orchestrator')}"
    except metadata.PackageNotFoundError:
        return "muster"
