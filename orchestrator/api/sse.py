"""Server-sent events: how they are written, and the names of the places in a stream. Pure.

Of a library only the few lines here would be used: what the well-kept ones bring beside them (pings and a watch for the
server's end, a task each per stream) our hub does for all streams together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import Invalid

MEDIA = "text/event-stream"
HEARTBEAT = b":\n\n"
RECONNECT = b"retry: 1000\n\n"
"""How soon a browser comes back, in milliseconds."""
_ID = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?(?:~([0-9a-z._-]{0,12000}))?", re.ASCII)


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """A place in the stream of a request: the move `seq`, and the n-th event that comes with it."""

    seq: int = 0
    nth: int = 0

    def __str__(self) -> str:
        return f"{self.seq}.{self.nth}" if self.nth else str(self.seq)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """An event that is written already, but for its ID."""

    place: Place
    body: bytes

    def written(self, log: str | None = None) -> bytes:
        """`log`: how far the reader of a stream with logs is in them."""
        return identified(f"{self.place}" if log is None else f"{self.place}~{log}", self.body)


def body(event: str, said: Mapping[str, Any]) -> bytes:
    """An event without an ID: it moves nobody's place in the stream."""
    return f"event: {event}\ndata: {json.dumps(said, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def identified(name: str, body: bytes) -> bytes:
    return b"id: " + name.encode() + b"\n" + body


def last_seen(header: str | None) -> tuple[Place, str | None]:
    """The place of a Last-Event-ID and how far its reader is in the logs. Raises Invalid `bad_event_id`."""
    if not header:
        return Place(), None
    match = _ID.fullmatch(header)
    if match is None:
        raise Invalid("this Last-Event-ID was not given here: start without one", code="bad_event_id")
    return Place(seq=int(match[1]), nth=int(match[2] or 0)), match[3]


def wanted(accept: str | None) -> bool:
    """Whether the caller wants events as they happen."""
    return MEDIA in (accept or "")
