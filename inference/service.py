"""The service, seen from a rank: one method per call of docs/protocol.md, and what each kind of answer means.

Thread-safe: every thread that calls gets a keep-alive connection of its own from the pool. Does not exit and does not
decide; it raises `Over`, `Stale`, `Refused` or `Unreachable`.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import urllib3

from inference.backoff import delays
from inference.contact import Contact
from inference.work import encode

CONNECT_S = 3.0
READ_S = 10.0


class Answered(Exception):
    """The service said no. `code` is the stable one of its problem document."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Over(Answered):
    """401 or 410: the credential or the gang is over. The rank ends, and its gang with it."""


class Superseded(Over):
    """410: only the incarnation is over. The rank ends; a new one may say hello."""


class Stale(Answered):
    """409: the lease is over, or the result was given already. The attempt is dropped."""


class Refused(Answered):
    """Another 4xx: the service understood and will never accept."""


class Unreachable(Exception):
    """No answer within the patience of the caller."""


def do_nothing() -> None:
    """For callers that have nothing to do between two tries."""


class Service:
    def __init__(self, urls: tuple[str, ...], gang: str, token: str, contact: Contact, slot: int = 0) -> None:
        """`slot`: the number of the replica that calls for work and beats."""
        self.gang = gang
        self._slot = slot
        self._contact = contact
        self._urls = urls
        self._preferred = 0
        self._token = token
        self._incarnation: int | None = None
        self._pool = urllib3.PoolManager(num_pools=max(4, len(urls)), maxsize=8, retries=False)

    @property
    def silent_s(self) -> float:
        """Since the last answer to any rank of this node, of this incarnation or an earlier one."""
        return self._contact.silent_s

    @property
    def knows_incarnation(self) -> bool:
        return self._incarnation is not None

    def enter_incarnation(self, incarnation: int, token: str) -> None:
        """From now on every call, of every thread, carries the incarnation's token."""
        self._token = token
        self._incarnation = incarnation

    def hello(self, rank: int, body: dict[str, Any], meanwhile: Callable[[], None] = do_nothing) -> dict[str, Any]:
        return self._call("POST", self._path(f"ranks/{rank}/hello"), body, meanwhile=meanwhile)

    def ready(
        self, rank: int, seconds: dict[str, float], link: dict[str, float], meanwhile: Callable[[], None]
    ) -> None:
        self._call("POST", self._path(f"ranks/{rank}/ready"), {"seconds": seconds, "link": link}, meanwhile=meanwhile)

    def work(self, wait_s: float, meanwhile: Callable[[], None]) -> dict[str, Any]:
        path = self._path(f"work?wait={wait_s:g}" + (f"&slot={self._slot}" if self._slot else ""))
        return self._call("GET", path, read_s=wait_s + READ_S, meanwhile=meanwhile)

    def beat(self, body: dict[str, Any], give_up_s: float) -> dict[str, Any]:
        return self._call("POST", self._path("beat"), {**body, "slot": self._slot}, give_up_s=give_up_s)

    def word(self, attempt: str, wait_s: float) -> str:
        """What to do about an attempt; parked until it is something else than going on. One try."""
        path = f"/internal/v1/attempts/{attempt}/word?wait={wait_s:g}"
        return str(self._call("GET", path, read_s=wait_s + READ_S, give_up_s=0.0).get("word", "over"))

    def finish(self, attempt: str, body: bytes, meanwhile: Callable[[], None]) -> dict[str, Any]:
        return self._call("POST", f"/internal/v1/attempts/{attempt}/finish", body, meanwhile=meanwhile)

    def error(self, rank: int, body: dict[str, Any], give_up_s: float = 2.0) -> None:
        self._call("POST", self._path(f"ranks/{rank}/error"), body, read_s=give_up_s, give_up_s=give_up_s)

    def leave(self, rank: int, *, signal: int | None, drained: bool, give_up_s: float) -> None:
        body = {"rank": rank, "signal": signal, "drained": drained}
        self._call("POST", self._path("leave"), body, read_s=give_up_s, give_up_s=give_up_s)

    def recall(self, node: str, give_up_s: float) -> bool:
        """This node is to go. Whether the gang has work under way that is worth staying for."""
        answer = self._call("POST", self._path("recall"), {"node": node}, read_s=give_up_s, give_up_s=give_up_s)
        return bool(answer.get("stay"))

    def logs(self, rank: int, chunks: list[dict[str, Any]], give_up_s: float) -> None:
        self._call("POST", self._path("logs"), {"rank": rank, "chunks": chunks}, read_s=5.0, give_up_s=give_up_s)

    def _path(self, rest: str) -> str:
        return f"/internal/v1/gangs/{self.gang}/{rest}"

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | bytes | None = None,
        *,
        read_s: float = READ_S,
        give_up_s: float | None = None,
        meanwhile: Callable[[], None] = do_nothing,
    ) -> dict[str, Any]:
        """Tries over every URL until an answer is final. `give_up_s` none: for ever."""
        content = encode(body) if isinstance(body, dict) else body
        timeout = urllib3.Timeout(connect=min(CONNECT_S, read_s), read=read_s)
        begun = time.monotonic()
        for delay in delays():
            for _ in self._urls:
                answer = self._try(method, path, content, timeout)
                if answer is not None:
                    return answer
                self._preferred += 1
            if give_up_s is not None and time.monotonic() - begun + delay > give_up_s:
                raise Unreachable(f"no answer to {method} {path} from {', '.join(self._urls)}")
            meanwhile()
            time.sleep(delay)
        raise AssertionError("delays never end")

    def _try(self, method: str, path: str, body: bytes | None, timeout: urllib3.Timeout) -> dict[str, Any] | None:
        """None: no answer, or one that says to try again."""
        url = self._urls[self._preferred % len(self._urls)] + path
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            answer = self._pool.request(method, url, body=body, headers=headers, timeout=timeout, redirect=False)
        except urllib3.exceptions.HTTPError:
            return None
        if answer.status in (408, 429) or answer.status >= 500:
            return None
        self._contact.note()
        if answer.status < 300:
            return _json(answer.data)
        code = _code(answer.data)
        said = answer.data[:500].decode(errors="replace")
        raise _meaning(answer.status, code)(f"{method} {path}: {answer.status} {said}", code)


def _meaning(status: int, code: str) -> type[Answered]:
    match status:
        case 410 if code == "gang_superseded":
            return Superseded
        case 401 | 410:
            return Over
        case 409:
            return Stale
        case _:
            return Refused


def _code(content: bytes) -> str:
    """Of a problem document; a proxy's error page has none."""
    try:
        return str(_json(content).get("code", ""))
    except ValueError:
        return ""


def _json(content: bytes) -> dict[str, Any]:
    answer = json.loads(content) if content else {}
    return answer if isinstance(answer, dict) else {}
