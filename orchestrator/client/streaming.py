"""Server-sent events as they come, over as many connections as it takes: a break is no end, and nothing is missed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from orchestrator.client.transport import backoff_s
from orchestrator.errors import Unavailable

MEDIA = "text/event-stream"
HEARTBEAT_S = 15.0
"""The service says at least that much."""
LARGEST_EVENT_BYTES = 16 << 20
Open = Callable[[Mapping[str, str]], AbstractContextManager[Iterator[bytes]]]


@dataclass(frozen=True, kw_only=True)
class Update:
    """One event of a stream. `id`: give it as `after` to go on from here; progress moves nobody's place."""

    kind: str
    id: str | None
    data: Mapping[str, Any] = field(default_factory=dict)


def follow(
    open_: Open,
    *,
    after: str | None,
    patience: timedelta,
    on_silence: Callable[[Unavailable], None] | None,
    sleep: Callable[[float], None],
) -> Iterator[Update]:
    """Every event until `done`. `open_` begins an answer, given the headers.

    A service that is away is asked again, ever later; raises Unavailable when it said nothing for `patience`.
    """
    last, tried, pulse = after, 0, _Pulse()
    while True:
        try:
            with open_({"Accept": MEDIA, **({"Last-Event-ID": last} if last else {})}) as chunks:
                pulse.beats = 0
                for update in updates(pulse.of(chunks)):
                    tried, last = 0, update.id or last
                    yield update
                    if update.kind == "done":
                        return
            if not pulse.beats:  # 204: it was read to its end
                return
            broke = Unavailable("the stream broke off", code="unreachable")
        except Unavailable as error:
            broke = error
        if time.monotonic() - pulse.last > patience.total_seconds():
            raise broke
        if on_silence is not None:
            on_silence(broke)
        tried += 1
        sleep(backoff_s(tried))


class _Pulse:
    """When the service last said anything, heartbeats too."""

    def __init__(self) -> None:
        self.last, self.beats = time.monotonic(), 0

    def of(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.last, self.beats = time.monotonic(), self.beats + 1
            yield chunk


def updates(chunks: Iterable[bytes]) -> Iterator[Update]:
    """The events of one answer, as the HTML standard reads them. An event that is cut off at the end is none."""
    fields: dict[str, list[str]] = {}
    for line in _lines(chunks):
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
            continue
        if "data" in fields:
            yield _update(fields)
        fields = {}


def _update(fields: Mapping[str, list[str]]) -> Update:
    try:
        data = json.loads("\n".join(fields["data"]))
    except (ValueError, RecursionError) as error:
        raise Unavailable("an event of the stream is not JSON", code="unexpected_answer") from error
    return Update(
        kind=fields.get("event", ["message"])[-1],
        id=fields["id"][-1] if "id" in fields else None,
        data=data if isinstance(data, dict) else {"said": data},
    )


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > LARGEST_EVENT_BYTES:
            raise Unavailable("an event of the stream is too large", code="unexpected_answer")
        yield from (line.removesuffix(b"\r").decode("utf-8", "replace") for line in whole)
