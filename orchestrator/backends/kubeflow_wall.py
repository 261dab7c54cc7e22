"""The wall between Muster and a Kubernetes API server: one way to call it, every call bounded, every error mapped once.

It knows HTTP, Kubernetes' status documents and the official client's ways to find and refresh credentials. It must not
know jobs, pods or gangs. Plain dicts go in and come out: the client's models cost more time than the network.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import getproxies

from orchestrator.errors import BackendError

Json = dict[str, Any]

CONNECT_S = 3.0
READ_S = 15.0
WATCH = timedelta(seconds=60)
"""How long one watch lasts at most. Also bounds how long a connection that died silently passes for a quiet one."""
_WATCH_SLACK_S = 10.0
_LONGEST_HOLD_S = 60.0
_MOST_CONNECTIONS = 512
"""Kept for another call: two watches of each namespace, and calls."""


class Refused(BackendError):
    """The API server answered, and not as asked. `status` is the HTTP status."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message, code=code)
        self.status = status


class Lost(BackendError):
    """No answer: the call may have been carried out or not. Look again."""


class Kube:
    """One API server, as the account of a kubeconfig or of the pod that this runs in. For many threads."""

    def __init__(self, kubeconfig: Path | None) -> None:
        self._client = _client(kubeconfig)
        self._pool = self._client.rest_client.pool_manager
        self._hold = _Hold()

    def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        query: Mapping[str, object] | None = None,
        *,
        read_s: float | None = None,
    ) -> Json:
        """The answer's document. A body of PATCH is a merge patch. Raises Refused or Lost."""
        answer = self._ask(method, path, body, query, preload_content=True, read_s=read_s or READ_S)
        return dict(json.loads(answer.data)) if answer.data else {}

    def read(self, path: str, query: Mapping[str, object], last_bytes: int) -> bytes:
        """The last bytes of an answer that is no document, such as a log. Raises Refused or Lost."""
        answer = self._ask("GET", path, None, query, preload_content=False, read_s=READ_S)
        kept = bytearray()
        for chunk in _streamed(answer):
            kept += chunk
            del kept[: max(0, len(kept) - last_bytes)]
        return bytes(kept)

    def watch(self, path: str, query: Mapping[str, object], lasts_s: float) -> Watch:
        """Returns once the server has begun to tell. Raises Refused (410: list anew) or Lost."""
        timeout_s = max(1, min(int(WATCH.total_seconds()), math.ceil(lasts_s)))
        asked = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": timeout_s}
        return Watch(self._ask("GET", path, None, asked, preload_content=False, read_s=timeout_s + _WATCH_SLACK_S))

    def close(self) -> None:
        self._pool.clear()

    def _ask(
        self,
        method: str,
        path: str,
        body: Json | None,
        query: Mapping[str, object] | None,
        *,
        preload_content: bool,
        read_s: float,
    ) -> Any:
        from urllib3.exceptions import HTTPError
        from urllib3.util import Timeout

        self._hold.check()
        try:
            answer = self._pool.request(
                method,
                f"{self._client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else ""),
                body=None if body is None else json.dumps(body),
                headers=self._headers(method),
                preload_content=preload_content,
                timeout=Timeout(connect=CONNECT_S, read=read_s),
                retries=False,
            )
            if answer.status >= 300:
                raise self._refusal(f"{method} {path}", answer)
        except (HTTPError, OSError) as error:
            words = f"The Kubernetes API does not answer {method} {path}: {_in_short(error)}."
            raise Lost(words, code="backend_unavailable") from error
        return answer

    def _headers(self, method: str) -> dict[str, str]:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json, */*", "Content-Type": kind, "User-Agent": "muster"}
        self._client.update_params_for_auth(headers, [], ["BearerToken"])  # reads a rotated token anew
        return headers

    def _refusal(self, what: str, answer: Any) -> Refused:
        status, message = int(answer.status), _message(answer.data)
        if status == 429:
            self._hold.begin(answer.headers.get("Retry-After"))
        return Refused(status, f"Kubernetes refused {what} ({status}): {message}", _code(status, message))


class Watch:
    """Events as they come, until the server ends the watch. Close it from any thread to end it sooner."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self._closed = False

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._answer.close()

    def __iter__(self) -> Iterator[Json]:
        """Raises Refused for an event that says so (410), or Lost."""
        rest = b""
        try:
            for chunk in _streamed(self._answer):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    yield _event(line)
        except Lost:
            if not self._closed:
                raise

    def close(self) -> None:
        self._closed = True
        shutdown = getattr(self._answer, "shutdown", None)  # younger than the oldest urllib3 that would do
        if shutdown is not None:
            try:
                shutdown()
            except (OSError, RuntimeError, ValueError):
                return


class _Hold:
    """Nobody calls before the moment that a 429 named."""

    def __init__(self) -> None:
        self._until = 0.0
        self._guard = threading.Lock()

    def begin(self, retry_after: str | None) -> None:
        wait_s = float(retry_after) if retry_after and retry_after.isdigit() else 1.0
        with self._guard:
            self._until = max(self._until, time.monotonic() + min(wait_s, _LONGEST_HOLD_S))

    def check(self) -> None:
        left_s = self._until - time.monotonic()
        if left_s > 0:
            words = f"The Kubernetes API asked for {left_s:.1f} s of quiet."
            raise Refused(429, words, "throttled")


def _client(kubeconfig: Path | None) -> Any:
    """An ApiClient of the official library, for its credentials and connections. Raises BackendError."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        words = "The kubeflow backend needs the Kubernetes client: pip install 'muster-orchestrator[kubeflow]'."
        raise BackendError(words, code="not_installed") from error
    configuration = client.Configuration()
    configuration.connection_pool_maxsize = _MOST_CONNECTIONS
    configuration.no_proxy = getproxies().get("no")  # which it drops, and then asks a proxy for the API server
    try:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    except config.ConfigException as error:
        where = "No pod's credentials are here" if kubeconfig is None else f"{kubeconfig} cannot be used"
        words = f"{where} ({error}); set MUSTER_KUBECONFIG, or run in a pod with a ServiceAccount."
        raise BackendError(words, code="no_credentials") from error
    return client.ApiClient(configuration)


def _streamed(answer: Any) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    try:
        yield from answer.stream(64 * 1024)
    except (HTTPError, OSError, ValueError, AttributeError) as error:  # the last two: closed by another thread
        raise Lost(f"The Kubernetes API broke off: {_in_short(error)}.", code="backend_unavailable") from error


def _event(line: bytes) -> Json:
    try:
        event: Json = json.loads(line)
    except ValueError as error:  # torn, or no longer deciphered because the connection was closed meanwhile
        raise Lost("The Kubernetes API told what is no event.", code="backend_unavailable") from error
    if event["type"] == "ERROR":
        status, message = int(event["object"].get("code", 500)), str(event["object"].get("message", ""))
        raise Refused(status, f"Kubernetes ended a watch ({status}): {message}", _code(status, message))
    return event


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body).get("message", ""))[:2000]
    except (ValueError, AttributeError):
        return body[:500].decode(errors="replace")


def _code(status: int, message: str) -> str:
    """What became of the call, for those who decide whether to try again."""
    match status:
        case 403 if "admission webhook" in message or "violates PodSecurity" in message:
            return "rejected"
        case 403 if "exceeded quota" in message:
            return "quota"
        case 403 if "because it is being terminated" in message:
            return "namespace_gone"
        case 401:
            return "unauthorized"
        case 403:
            return "forbidden"
        case 400 | 405 | 413 | 422:
            return "rejected"
        case 404 if 'namespaces "' in message:
            return "namespace_gone"
        case 404:
            return "not_found"
        case 409:
            return "conflict"
        case 410:
            return "gone"
        case 429:
            return "throttled"
        case 500 if "failed calling webhook" in message:
            return "operator_away"
    return "backend_unavailable"


def _in_short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
