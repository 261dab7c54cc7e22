"""The attackers of benchmarks/siege.py: `python -m benchmarks.siege_attacks KIND URL TOKEN SECONDS`.

Prints what came of it as JSON. Bounded in time and in connections; loopback only.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

import uvloop

LORIS = 500
IDLE = 10_000
CONNECTS_PER_S = 800
SENDERS = 16
SUBMITTERS = 200
GIB = 1 << 30
BLOCK = b" " * (1 << 18)


class Attack:
    """What is known to all attackers, and what came of it."""

    def __init__(self, url: str, token: str, seconds: float) -> None:
        self.place = urlsplit(url)
        self.until = time.monotonic() + seconds
        self.token = token
        self.seen: Counter[str] = Counter()
        self.open = 0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        pair = await asyncio.open_connection(self.place.hostname, self.place.port)
        self.open += 1
        self.seen["most at once"] = max(self.seen["most at once"], self.open)
        return pair

    def leave(self, writer: asyncio.StreamWriter) -> None:
        self.open -= 1
        writer.close()

    def head(self, method: str, path: str, *lines: str, token: bool = True) -> bytes:
        named = [f"Authorization: Bearer {self.token}"] if token else []
        told = [f"{method} {path} HTTP/1.1", f"Host: {self.place.netloc}", "Content-Type: application/json"]
        return "\r\n".join([*told, *named, *lines, "", ""]).encode()

    async def again(self, once: Callable[[], Awaitable[str]]) -> None:
        """Until the time is over."""
        while (left := self.until - time.monotonic()) > 0:
            try:
                self.seen[await asyncio.wait_for(once(), left)] += 1
            except TimeoutError:
                self.seen["still there at the end"] += 1
            except (OSError, asyncio.IncompleteReadError) as error:
                self.seen[type(error).__name__] += 1
                await asyncio.sleep(0.05)


async def status_of(reader: asyncio.StreamReader) -> str:
    line = await reader.readline()
    return line.split()[1].decode() if line else "closed"


def slow(attack: Attack, number: int) -> Callable[[], Awaitable[str]]:
    """A head, or a body, of one byte per second."""

    async def once() -> str:
        reader, writer = await attack.connect()
        try:
            begin = attack.head("POST", "/v1/requests", "Content-Length: 100000")
            writer.write(begin if number % 2 else begin[:-2] + b"Slow: ")
            answer = asyncio.ensure_future(status_of(reader))
            while not answer.done():
                writer.write(b"a")
                await asyncio.wait([answer], timeout=1)
            return await answer
        finally:
            attack.leave(writer)

    return once


def idle(attack: Attack, number: int) -> Callable[[], Awaitable[str]]:
    """One call, then nothing; comes again when it was sent away."""

    async def once() -> str:
        await asyncio.sleep(number / CONNECTS_PER_S)
        reader, writer = await attack.connect()
        try:
            writer.write(attack.head("GET", "/healthz", token=False))
            await reader.readuntil(b"\r\n\r\n")
            while await reader.read(65536):
                pass
            return "sent away"
        finally:
            attack.leave(writer)

    return once


def huge(attack: Attack, number: int) -> Callable[[], Awaitable[str]]:
    """A body of one GiB: said, or in chunks."""

    async def once() -> str:
        reader, writer = await attack.connect()
        said = number % 2 == 0
        try:
            how = f"Content-Length: {GIB}" if said else "Transfer-Encoding: chunked"
            writer.write(attack.head("POST", "/v1/requests", how, token=number % 4 > 1))
            answer = asyncio.ensure_future(status_of(reader))
            for _ in range(GIB // len(BLOCK)):
                if answer.done() or writer.is_closing():
                    break
                writer.write(BLOCK if said else b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK))
                with suppress(TimeoutError):
                    await asyncio.wait_for(writer.drain(), 1)
                attack.seen["blocks of 256 KiB"] += 0 if answer.done() else 1
            return await answer
        finally:
            attack.leave(writer)

    return once


def submit(attack: Attack, number: int) -> Callable[[], Awaitable[str]]:
    """As many submits as one connection carries."""

    async def once() -> str:
        reader, writer = await attack.connect()
        body = b'{"template": "echo", "input": {"text": "x"}}'
        call = attack.head("POST", "/v1/requests", f"Content-Length: {len(body)}") + body
        try:
            while True:
                writer.write(call)
                head = await reader.readuntil(b"\r\n\r\n")
                attack.seen[head.split(maxsplit=2)[1].decode()] += 1
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.partition(b":")[2]))
        finally:
            attack.leave(writer)

    return once


KINDS: dict[str, tuple[int, Callable[[Attack, int], Callable[[], Awaitable[str]]]]] = {
    "slow": (LORIS, slow),
    "idle": (IDLE, idle),
    "huge": (SENDERS, huge),
    "submit": (SUBMITTERS, submit),
}


async def run(kind: str, url: str, token: str, seconds: float) -> Counter[str]:
    attack = Attack(url, token, seconds)
    count, attacker = KINDS[kind]
    await asyncio.gather(*[attack.again(attacker(attack, number)) for number in range(count)])
    return attack.seen


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kind, url, token, seconds = sys.argv[1:5]
    seen = uvloop.run(run(kind, url, token, float(seconds)))
    print(json.dumps({**seen, "files allowed": most}))


if __name__ == "__main__":
    main()
