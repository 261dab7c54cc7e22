"""One HTTP call: tried again where that is safe, bounded in time and size, its failures told as MusterError."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from orchestrator.client import tracing
from orchestrator.client.connection import Connection
from orchestrator.client.lean import httpx
from orchestrator.client.problems import error_of
from orchestrator.errors import Invalid, MusterError, Unavailable

TRY_AGAIN = frozenset({429, 502, 503, 504})
LARGEST_ANSWER_BYTES = 16 * 1024 * 1024
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
LONGEST_RETRY_AFTER_S = 60.0
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, kw_only=True)
class Call:
    """`repeatable`: the same call twice does no more than once, so a lost answer may be asked for again."""

    method: str
    path: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    wait_s: float = 0.0  # how long the service was asked to hold the answer back


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    def text(self) -> str:
        return self.content.decode("utf-8", errors="replace")

    def json(self) -> Any:
        try:
            return json.loads(self.content.decode("utf-8")) if self.content else None
        except (ValueError, RecursionError) as error:
            raise Unavailable(
                "the answer is not JSON: is a Muster service behind this address?", code="unexpected_answer"
            ) from error


class Transport:
    """`timeout` bounds the silence between two bytes, not the whole call. `retries` come after the first try."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        namespace: str | None = None,
        timeout: timedelta,
        retries: int,
        agent: str,
        inner: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        trace: Mapping[str, str] = {},
        refind: Callable[[], Connection] | None = None,
    ) -> None:
        """`trace`: headers that say where in a trace the caller is, unless OpenTelemetry knows better.

        `refind`: where the service is now; asked when it is gone, or does not know the token any more.
        """
        self.url = checked_url(url)
        self._trace = dict(trace)
        self._timeout_s = timeout.total_seconds()
        self._retries = retries
        self._sleep = sleep
        self._refind = refind
        self._http = httpx.Client(
            headers=_headers(token, namespace, agent),
            transport=inner,
            trust_env=not _is_loopback(httpx.URL(self.url).host),
        )

    def close(self) -> None:
        self._http.close()

    def send(self, call: Call) -> Answer:
        """The answer, if its status is below 300; everything else raises. The token follows no redirect."""
        answer = self.send_raw(call)
        if 300 <= answer.status < 400:
            raise Unavailable(
                f"{self.url} sends us elsewhere ({answer.status}), to a login page perhaps: "
                "give the address of the service itself",
                code="redirected",
            )
        if answer.status >= 400:
            raise error_of(answer.status, answer.headers.get("content-type", ""), answer.content, self.url)
        return answer

    def send_raw(self, call: Call) -> Answer:
        """The last answer, errors included. Raises Unavailable when none came."""
        tried = 0
        while True:
            tried += 1
            try:
                answer = self._once(call)
            except httpx.RequestError as error:
                if tried > self._retries or not _may_repeat(call, error):
                    raise self._unreachable(error) from error
                self._sleep(backoff_s(tried))
                self._moved()
                continue
            if answer.status == 401 and self._moved():
                continue
            if answer.status not in TRY_AGAIN or not call.repeatable or tried > self._retries:
                return answer
            self._sleep(retry_after_s(answer.headers.get("retry-after")) or backoff_s(tried))

    @contextmanager
    def stream(self, call: Call) -> Iterator[Iterator[bytes]]:
        """The bytes of one answer as they come; tried once. May be sent on to a store (the token stays behind)."""
        try:
            with self._http.stream(
                call.method,
                self.url + call.path,
                params=dict(call.params),
                headers=call.headers,
                follow_redirects=True,
                timeout=self._timeout(call),
            ) as response:
                if response.status_code >= 400:
                    content = _bounded(response)
                    self._refuse_the_old(response.status_code)
                    raise error_of(response.status_code, response.headers.get("content-type", ""), content, self.url)
                yield response.iter_bytes()
        except httpx.RequestError as error:
            self._moved()
            raise self._unreachable(error) from error

    def upload(self, call: Call, content: Iterable[bytes]) -> Answer:
        """The answer to a body that is sent as it is read; tried once."""
        try:
            with self._http.stream(
                call.method,
                self.url + call.path,
                params=dict(call.params),
                content=content,
                headers=self._said({"Content-Type": "application/octet-stream"}, call),
                timeout=self._timeout(call),
            ) as response:
                body = _bounded(response)
                answer = Answer(status=response.status_code, headers=response.headers, content=body)
        except httpx.RequestError as error:
            self._moved()
            raise self._unreachable(error) from error
        if answer.status >= 300:
            self._refuse_the_old(answer.status)
            raise error_of(answer.status, answer.headers.get("content-type", ""), answer.content, self.url)
        return answer

    def _refuse_the_old(self, status: int) -> None:
        """For calls that are tried once: who follows, or sends lines under a key, tries again where the service is."""
        if status == 401 and self._moved():
            raise Unavailable(f"the service was started anew, at {self.url}: ask again", code="started_anew")

    def _moved(self) -> bool:
        """Whether `muster up` was started anew meanwhile: at another address, or with another token."""
        before = (self.url, self._http.headers.get("Authorization"))
        with suppress(MusterError):
            if self._refind is not None:
                place = self._refind()
                self.url = checked_url(place.url)
                if place.token:
                    self._http.headers["Authorization"] = f"Bearer {place.token}"
        return before != (self.url, self._http.headers.get("Authorization"))

    def _once(self, call: Call) -> Answer:
        with self._http.stream(
            call.method,
            self.url + call.path,
            params=dict(call.params),
            content=None if call.body is None else encoded(call.body),
            headers=self._said({"Content-Type": "application/json"} if call.body is not None else {}, call),
            timeout=self._timeout(call),
        ) as response:
            content = _bounded(response)
            return Answer(status=response.status_code, headers=response.headers, content=content)

    def _said(self, usual: dict[str, str], call: Call) -> dict[str, str]:
        """The headers of a call; where in a trace it is, if it records something."""
        trace = (tracing.current() or self._trace) if call.method in ("POST", "PUT") else {}
        return {**usual, **trace, **call.headers}

    def _timeout(self, call: Call) -> httpx.Timeout:
        return httpx.Timeout(self._timeout_s, read=self._timeout_s + call.wait_s)

    def _unreachable(self, error: httpx.RequestError) -> Unavailable:
        why = str(error) or type(error).__name__
        return Unavailable(
            f"{self.url} does not answer ({why}): is the service up? `muster doctor` looks closer", code="unreachable"
        )


def checked_url(url: str) -> str:
    """`url` without a trailing slash. Raises Invalid for what is not a plain http(s) address."""
    try:
        parsed = httpx.URL(urlsplit(url).geturl())
    except (httpx.InvalidURL, ValueError) as error:
        raise Invalid(f"{url!r} is not a URL: {error}", code="bad_url") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Invalid(f"{url!r} is not the URL of a service: write http://HOST:PORT", code="bad_url")
    if parsed.userinfo:
        raise Invalid("a URL with a password in it is not taken: set MUSTER_TOKEN", code="bad_url")
    return url.rstrip("/")


def backoff_s(tried: int, spread: Callable[[], float] = random.random) -> float:
    """0.2 s doubling to 5 s; the upper half of it is chance, so that clients do not return in step."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (tried - 1)) * (0.5 + spread() / 2)


def retry_after_s(header: str | None) -> float | None:
    """Seconds asked for by `Retry-After` (a number or a date), at most a minute; none if it says nothing."""
    if header is None:
        return None
    try:
        asked = float(header) if header.strip().isdigit() else _until(header)
    except ValueError:
        return None
    return min(max(asked, 0.0), LONGEST_RETRY_AFTER_S)


def encoded(body: Any) -> bytes:
    """JSON as the service takes it. Raises Invalid for what JSON cannot say (NaN, infinity)."""
    try:
        return json.dumps(body, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid(f"this cannot be sent as JSON: {error}") from error


def _until(date: str) -> float:
    return (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()


def _may_repeat(call: Call, error: httpx.RequestError) -> bool:
    return isinstance(error, NEVER_SENT) or (call.repeatable and isinstance(error, httpx.TransportError))


def _bounded(response: httpx.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    for part in response.iter_bytes():
        size += len(part)
        if size > LARGEST_ANSWER_BYTES:
            raise MusterError(
                f"the answer is larger than {LARGEST_ANSWER_BYTES >> 20} MiB: ask for less", code="answer_too_large"
            )
        parts.append(part)
    return b"".join(parts)


def _headers(token: str | None, namespace: str | None, agent: str) -> dict[str, str]:
    headers = {"User-Agent": agent, "Accept": "application/json"}
    if namespace is not None:
        if not re.fullmatch("[a-z0-9-]{1,63}", namespace):
            raise Invalid(f"{namespace!r} is no namespace: check MUSTER_NAMESPACE", code="bad_namespace")
        headers["Muster-Namespace"] = namespace
    if token is None:
        return headers
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Invalid("the token holds characters that no token has: check MUSTER_TOKEN", code="bad_token")
    return {**headers, "Authorization": f"Bearer {token}"}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
