"""Uvicorn's HTTP/1.1 with bounds: on the time a request takes to arrive, its head's size, and connections.

Uvicorn has none of them and ASGI sees a request only when its head is complete. The parser (llhttp, strict) refuses
what two readers could understand differently; what it lets through of that is refused here. A call that came whole
in one piece, as nearly all do, costs no timer.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from functools import partial
from typing import Any

import httptools
from uvicorn._types import ASGISendCallable, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from orchestrator.api.problems import problem
from orchestrator.api.wire.house import House
from orchestrator.api.wire.limits import Limits

CHUNK_OVERHEAD = 8
"""Bytes of framing that one byte of a body may cost, above a head's worth: chunks of one byte cost five."""


class Stage(Enum):
    """Of the message that is being received."""

    HEAD = "head"
    BODY = "body"
    WHOLE = "whole"
    REFUSED = "refused"
    """What still comes is not looked at."""


class _Refusal(Exception):
    """Raised from the parser's callbacks; the parser passes it on as an error of its own."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *, limits: Limits, house: House, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._limits, self._house = limits, house
        self._stage = Stage.HEAD
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._why: tuple[int, str, str] = (400, "bad_request", "this is not HTTP/1.1 as RFC 9112 has it")
        self._head_bytes = self._body_bytes = self._raw_bytes = 0
        self._began = self._heard = 0.0
        self._unread = 0
        self._has_called = False

    # ------------------------------------------------------------------------------------------------- connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._house.enter(self):
            self._wait_for_head()
        else:
            self._refuse(503, "too_many_connections", "this replica has all the connections it takes; try again")

    def connection_lost(self, exc: Exception | None) -> None:
        self._house.gone(self)
        self._stop_waiting()
        self._stop_watching_answer()
        super().connection_lost(exc)

    def leave(self) -> None:
        """Close it now: nothing is under way."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._stage is Stage.REFUSED:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        stage = self._stage = Stage.HEAD if self._is_idle() else self._stage
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.cycle.keep_alive = False  # it is answered as if it had not offered to speak another one
            self._stage = Stage.REFUSED
        except httptools.HttpParserError:
            self._refuse(*self._why)
        else:
            self._heard = self.loop.time()
            self._judge(stage, len(data))

    def _is_idle(self) -> bool:
        return self._stage is Stage.WHOLE and (self.cycle is None or self.cycle.response_complete)

    def _judge(self, stage_before: Stage, size: int) -> None:
        """After a piece: is the message still to be waited for?"""
        match self._stage:
            case Stage.HEAD:
                self._head_bytes += size if stage_before is Stage.HEAD else 0
                if self._head_bytes > self._limits.head_bytes:
                    self._refuse(431, "head_too_large", f"the head is larger than {self._limits.head_bytes} bytes")
                elif self._timer is None:
                    self._wait_for_head()
            case Stage.BODY:
                self._raw_bytes += size if stage_before is Stage.BODY else 0
                if self._raw_bytes - self._body_bytes > self._limits.head_bytes + CHUNK_OVERHEAD * self._body_bytes:
                    self._refuse(400, "bad_request", "more framing than body")
                elif self._timer is None:
                    self._watch_body()

    # --------------------------------------------------------------------------------------------- parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._stage = Stage.HEAD
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage is Stage.HEAD:  # else a trailer: nobody reads those
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._check_head()
        super().on_headers_complete()
        self._house.work(self)
        self._stage, self._has_called = Stage.BODY, True
        self._body_bytes = self._raw_bytes = 0
        self._began = self.loop.time()
        if self._announces_body():
            self.cycle.transport = _PoliteTransport(self)  # type: ignore[assignment]
            self.cycle.send = partial(self._send, self.cycle.send)  # type: ignore[method-assign]

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_waiting()
        super().on_message_complete()
        self._stage = Stage.WHOLE

    def _check_head(self) -> None:
        limits, names = self._limits, [name for name, _ in self.headers]
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > limits.head_bytes:
            self._raise(431, "head_too_large", f"the head is larger than {limits.head_bytes} bytes")
        if not self.url.startswith(b"/"):
            self._raise(400, "bad_request", "the target of a call is a path")
        if (hosts := names.count(b"host")) > 1 or (not hosts and self.parser.get_http_version() != "1.0"):
            self._raise(400, "bad_request", "HTTP/1.1 wants one Host header")
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            self._raise(400, "bad_request", "HTTP/1.1 is spoken here")
        if any(name == b"transfer-encoding" and value.strip().lower() != b"chunked" for name, value in self.headers):
            self._raise(400, "bad_request", "the one transfer encoding is chunked")
        if b"transfer-encoding" in names and (names.count(b"transfer-encoding") > 1 or b"content-length" in names):
            self._raise(400, "bad_request", "how long the body is was said twice")
        if b"transfer-encoding" in names and self.parser.get_http_version() == "1.0":
            self._raise(400, "bad_request", "HTTP/1.0 knows no transfer encoding")
        if len(self.pipeline) >= limits.pipelined:
            self._raise(400, "bad_request", f"more than {limits.pipelined} calls at once on one connection")

    def _raise(self, status: int, code: str, detail: str) -> None:
        self._why = (status, code, detail)
        raise _Refusal

    def _announces_body(self) -> bool:
        return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
                   for name, value in self.headers)  # fmt: skip

    # -------------------------------------------------------------------------------------------------------- answers

    async def _send(self, send: ASGISendCallable, message: ASGISendEvent) -> None:
        """An answer to a call that has not come whole is the last one here, and says so."""
        if message["type"] == "http.response.start" and self._stage is Stage.BODY:
            self.cycle.keep_alive = False
        await send(message)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() or self._stage is Stage.REFUSED or self.pipeline:
            return
        if self.cycle.response_complete and self._stage is Stage.BODY:
            self._linger()  # refused before it had sent everything: what still comes must not hold the connection
        elif self.cycle.response_complete:
            self._house.rest(self)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer and close. What is being answered on this connection is broken off."""
        self._stop_waiting()
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if answering and (self.cycle.response_started or self._stage is not Stage.BODY or self.pipeline):
            self.transport.close()  # an answer here would be taken for that of the call before
            return
        body = bytes(problem(status, code, detail).body)
        head = [
            STATUS_LINE[status],
            b"content-type: application/problem+json\r\ncontent-length: %d\r\n" % len(body),
            b"retry-after: 1\r\n" if status == 503 else b"",
            b"connection: close\r\n\r\n",
        ]
        self.transport.write(b"".join([*head, body]))
        self._linger()

    def _linger(self) -> None:
        """Closing on a caller that still sends would reset the connection, and our answer could be lost with it."""
        self._stop_waiting()
        self._unset_keepalive_if_required()
        self._stage, self._unread = Stage.REFUSED, 0
        self._house.rest(self)  # the first to go where room is short
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._timer = self.loop.call_later(self._limits.linger_s, self.transport.abort)

    def _discard(self, size: int) -> None:
        self._unread += size
        if self._unread > self._limits.linger_bytes:
            self.flow.pause_reading()

    # ------------------------------------------------------------------------------------------------------- clocks

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(self._limits.head_s, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._head_bytes == 0 and not self._has_called:
            self.transport.close()  # connected and said nothing: no call to answer
        else:
            self._refuse(408, "request_timeout", f"the head took longer than {self._limits.head_s:g} s")

    def _watch_body(self) -> None:
        self._timer = self.loop.call_later(self._limits.silence_s / 3, self._look_at_body)

    def _look_at_body(self) -> None:
        now, limits = self.loop.time(), self._limits
        if self.flow.read_paused:  # it is we who do not read
            self._heard, self._began = now, self._began + limits.silence_s / 3
        lasted = now - self._began
        if now - self._heard >= limits.silence_s:
            self._refuse(408, "request_timeout", f"nothing of the body came for {limits.silence_s:g} s")
        elif lasted > limits.silence_s and self._body_bytes < lasted * limits.bytes_per_s:
            self._refuse(408, "request_timeout", f"the body comes slower than {limits.bytes_per_s} bytes per second")
        else:
            self._watch_body()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_watching_answer()
        left = self.transport.get_write_buffer_size()
        self._stall = self.loop.call_later(self._limits.stall_s, self._look_at_answer, left)

    def resume_writing(self) -> None:
        self._stop_watching_answer()
        super().resume_writing()

    def _look_at_answer(self, before: int) -> None:
        """A caller that reads nothing of its answer holds memory, a task, perhaps a thread."""
        left = self.transport.get_write_buffer_size()
        if left >= before:
            self.transport.abort()
        else:
            self._stall = self.loop.call_later(self._limits.stall_s, self._look_at_answer, left)

    def _stop_watching_answer(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


class _PoliteTransport:
    """What uvicorn's cycle uses of a transport: closing it lets a caller that still sends read its answer first."""

    def __init__(self, of: GuardedProtocol) -> None:
        self._of = of
        self.write = of.transport.write
        self.is_closing = of.transport.is_closing

    def close(self) -> None:
        if self._of._stage is Stage.BODY:
            self._of._linger()
        else:
            self._of.transport.close()
