"""How a request is coming along, in one line: redrawn on a terminal, said again only when it changes elsewhere."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Self

from orchestrator.cli import output
from orchestrator.cli.session import Session
from orchestrator.cli.text import clock, duration, safe, safe_lines
from orchestrator.errors import MusterError

if TYPE_CHECKING:
    from rich.live import Live

    from orchestrator.client import Request

HEARTBEAT_S = 30.0
LONG_ID = re.compile(r"\b(req|gng|bat)_[0-9a-z]{22}([0-9a-z]{4})\b")
NUMBER = re.compile(r"\b[0-9][0-9.]*(?: m?s\b|[smhd0-9]*)")  # also 2m15s and 45 s


class View(Protocol):
    """Shows one request; `note` says something that stays, above the line."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, request: Request) -> None: ...
    def note(self, text: str) -> None: ...


def view_for(session: Session, *, stream_json: bool = False) -> View:
    if session.json and stream_json:
        return JsonLines()
    if session.quiet:
        return Silence()
    if output.on_terminal(sys.stderr) and os.environ.get("TERM") != "dumb":
        return LiveLine()
    return PhaseLines()


def sentence(request: Request, elapsed_s: float, *, width: int = 0) -> str:
    """`req_… denoise 17/30 56% eta 0:03 (warm, gang gng_…, 4 ranks)`; with shorter IDs where `width` is too little."""
    parts = [request.id, _doing(request, elapsed_s), _counted(request), _attempt(request), _place(request)]
    said = safe(" ".join(part for part in parts if part))
    return said if not width or len(said) <= width else short_ids(said)


def short_ids(said: str) -> str:
    """`req_01m8…pbbm` as `req_..pbbm`."""
    return LONG_ID.sub(r"\1_..\2", said)


def _doing(request: Request, elapsed_s: float) -> str:
    if request.is_terminal:
        return request.status
    if request.status in ("queued", "assigned"):
        return request.waiting or _starting(request, elapsed_s)
    progress = request.progress
    return (progress.phase if progress else None) or request.phase or request.status


def _starting(request: Request, elapsed_s: float) -> str:
    if request.placement is None or request.placement.kind == "warm":
        return request.status
    return f"cold start: {request.phase or 'starting'} {elapsed_s:.0f} s"


def _counted(request: Request) -> str:
    progress = request.progress
    if progress is None or request.is_terminal or request.status in ("queued", "assigned"):
        return ""
    parts = []
    if progress.current is not None and progress.total:
        parts.append(f"{progress.current:g}/{progress.total:g}")
    fraction = _fraction(request)
    if fraction is not None:
        parts.append(f"{int(fraction * 100)}%")
    if progress.eta_s is not None:
        parts.append(f"eta {clock(progress.eta_s)}")
    return " ".join(parts)


def _fraction(request: Request) -> float | None:
    progress = request.progress
    if progress is None:
        return None
    if progress.fraction is not None:
        return progress.fraction
    return progress.current / progress.total if progress.current is not None and progress.total else None


def _attempt(request: Request) -> str:
    if request.is_terminal or not request.attempt or request.attempt < 2:
        return ""
    return f"attempt {request.attempt} of {request.max_attempts or '?'}"


def _place(request: Request) -> str:
    placement = request.placement
    if placement is None or request.waiting:  # that says what it waits for
        return ""
    parts = [placement.kind]
    if placement.gang:
        parts.append(f"gang {placement.gang}")
    if placement.ranks:
        first = f" from {placement.first_rank}" if placement.first_rank else ""
        parts.append(f"{placement.ranks} rank{'s' if placement.ranks > 1 else ''}{first}")
    return f"({', '.join(parts)})"


class Outage:
    """A service that does not answer for a while is spoken of twice: when that begins, and when it is over."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._silent = False

    def begun(self, error: MusterError) -> None:
        if not self._silent:
            self._note(f"{error.message}\nstill trying")
        self._silent = True

    def over(self) -> None:
        if self._silent:
            self._note("the service answers again")
        self._silent = False


class LiveLine:
    """One line on a terminal, redrawn in place, gone at the end."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(console=output.console(sys.stderr), transient=True, auto_refresh=False)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, request: Request) -> None:
        from rich.text import Text

        if self._live is not None:
            said = sentence(request, self._now() - self._began, width=self._live.console.width)
            self._live.update(Text(said, no_wrap=True, overflow="crop", end=""), refresh=True)

    def note(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(safe_lines(text), soft_wrap=True)


class PhaseLines:
    """For logs of CI and cron: a line when the phase changes, one each 30 s to show life; no carriage return, ever."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = self._said_at = now()
        self._said: tuple[object, ...] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, request: Request) -> None:
        state = _state(request)
        if request.is_terminal or (state == self._said and self._now() - self._said_at < HEARTBEAT_S):
            return
        beat = f" [{duration(self._now() - self._began)}]" if state == self._said else ""
        self._said, self._said_at = state, self._now()
        self.note(sentence(request, self._now() - self._began) + beat)

    def note(self, text: str) -> None:
        output.complain(text)


def _state(request: Request) -> tuple[object, ...]:
    """What makes a new line: figures that only grow or shrink do not."""
    waiting = NUMBER.sub("", request.waiting or "")
    gang = request.placement.gang if request.placement else None
    return (request.status, request.phase, waiting, gang, request.attempt)


class JsonLines:
    """`--follow --json`: the request as a JSON line whenever it changed."""

    def __init__(self) -> None:
        self._said: object = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, request: Request) -> None:
        if request.raw != self._said:
            self._said = request.raw
            output.json_line(request.raw)

    def note(self, text: str) -> None:
        output.complain(text)


class Silence:
    """`-q`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, request: Request) -> None:
        return

    def note(self, text: str) -> None:
        return
