"""The one way out of the service to places that tenants name: one signed POST, guarded, bounded, never redirected.

Knows nothing of deliveries and of the database. A name is resolved here, every address is held to the policy, and the
connection goes to the very address that was looked at: what the name means a moment later does not matter. TLS is
checked against the name.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import httpcore

from orchestrator.domain.targets import Address, Policy, Target, literal
from orchestrator.domain.webhooks import retry_after
from orchestrator.errors import Invalid
from orchestrator.store.outbox import Answer

log = logging.getLogger("muster.egress")

CONNECT_S = 5.0
TOTAL_S = 15.0
LARGEST_REPLY_BYTES = 64 << 10

_OURS = {"User-Agent": "muster-webhooks", "Connection": "close"}

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Forbidden(Exception):
    """The address may not be connected to."""


async def resolve(host: str, port: int) -> list[str]:
    """What the system's resolver says."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=1)  # SOCK_STREAM
    return list(dict.fromkeys(str(one[4][0]) for one in found))


@dataclass(frozen=True, kw_only=True)
class Egress:
    """How this replica sends."""

    policy: Policy
    resolve: Resolve = resolve
    tls: ssl.SSLContext | None = None
    """None: the system's authorities; SSL_CERT_FILE names others."""

    async def post(self, url: str, headers: Mapping[str, str], body: str) -> Answer:
        """What the receiver answered. Never raises: what goes wrong is an answer with an error code."""
        try:
            target = self.policy.target(url)
        except Invalid:
            return Answer(error="not_allowed")
        heard: list[Answer] = []
        try:
            async with asyncio.timeout(TOTAL_S):
                await self._post(target, headers, body.encode(), heard)
        except Exception as error:
            return heard[0] if heard else Answer(error=_code(error))
        return heard[0]

    async def _post(self, target: Target, headers: Mapping[str, str], body: bytes, heard: list[Answer]) -> None:
        """`heard` gets the answer as soon as its head has come: nothing that follows changes it."""
        sent = {"Host": target.authority, "Content-Type": "application/json", **_OURS, **headers}
        timeout = {"connect": CONNECT_S, "read": TOTAL_S, "write": TOTAL_S, "pool": TOTAL_S}
        network = _Guarded(target, self.policy, self.resolve)
        async with (
            httpcore.AsyncConnectionPool(ssl_context=self.tls, network_backend=network) as pool,
            pool.stream(
                "POST", target.url, headers=list(sent.items()), content=body, extensions={"timeout": timeout}
            ) as response,
        ):
            heard.append(_answer(response.status, dict(response.headers)))
            await _drain(response)


def _code(error: Exception) -> str:
    """One word, without a word of what the network said."""
    match error:
        case Forbidden():
            return "address_refused"
        case TimeoutError() | httpcore.TimeoutException():
            return "timeout"
        case httpcore.ConnectError() if isinstance(error.__cause__ or error.__context__, ssl.SSLError):
            return "tls"
        case httpcore.ConnectError() | socket.gaierror():
            return "connect"
        case ssl.SSLError():
            return "tls"
        case httpcore.NetworkError() | httpcore.ProtocolError() | OSError():
            return "broken"
    log.error("a defect in egress", exc_info=error, extra={"action": "defect"})
    return "broken"


def _answer(status: int, headers: Mapping[bytes, bytes]) -> Answer:
    """Only the status counts; a redirect is an answer like any other that is not 2xx."""
    asked = next((value.decode("latin-1") for name, value in headers.items() if name.lower() == b"retry-after"), None)
    error = None if 200 <= status < 300 else "redirect" if 300 <= status < 400 else "status"
    return Answer(status=status, error=error, retry_after=retry_after(asked, datetime.now(UTC)))


async def _drain(response: httpcore.Response) -> None:
    """Read the reply, for a receiver that would stumble over a closed connection; it is not kept."""
    size = 0
    async for part in response.aiter_stream():
        size += len(part)
        if size > LARGEST_REPLY_BYTES:
            return


class _Guarded(httpcore.AsyncNetworkBackend):
    """Connects only to addresses that the policy admits, and to the one that was looked at."""

    def __init__(self, target: Target, policy: Policy, resolve: Resolve) -> None:
        self._target = target
        self._policy = policy
        self._resolve = resolve
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        began = time.monotonic()
        async with asyncio.timeout(CONNECT_S):
            addresses = await self._addresses(host, port)
        left_s = max(0.1, CONNECT_S - (time.monotonic() - began))
        return await self._connect(addresses, port, left_s)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise Forbidden(path)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """All of them, if all are admitted: one that is not spoils the name."""
        given = literal(host)
        found = [given] if given else [literal(one) for one in await self._resolve(host, port)]
        addresses = [one for one in found if one is not None]
        if len(addresses) != len(found) or not addresses:
            raise Forbidden(host)
        if not all(self._policy.admits(self._target, one) for one in addresses):
            raise Forbidden(host)
        return addresses

    async def _connect(self, addresses: list[Address], port: int, left_s: float) -> httpcore.AsyncNetworkStream:
        """The first that takes the connection."""
        share_s = left_s / min(2, len(addresses))
        for address in addresses[:-1][:3]:
            try:
                return await self._network.connect_tcp(str(address), port, timeout=share_s)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(str(addresses[-1]), port, timeout=left_s)
