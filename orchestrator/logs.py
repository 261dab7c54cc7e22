"""The service's own log on standard error: JSON lines with a stable `action` word to search for, or text for people.

One record is one line, whatever stands in it; what looks like a credential is masked in every one.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, TextIO

Form = Literal["auto", "json", "text"]
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET = re.compile(
    r"(?P<before>://[^/\s:@]*:)[^/\s@]+(?=@)|(?P<scheme>\bBearer\s+)\S+|\b(?P<kind>mst_|whsec_)[A-Za-z0-9_+/=-]+",
    re.IGNORECASE,
)
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""What a terminal obeys instead of showing it, and what reorders or hides other text."""
_encode = json.JSONEncoder(default=str).encode
MOVES = "muster.moves"
LIBRARY = "library"
"""The action of a record that is not ours."""
Line = Mapping[str, Any]


class JsonLines(logging.Formatter):
    """Every `extra` becomes a field."""

    def format(self, record: logging.LogRecord) -> str:
        said = {"logger": record.name, "message": record.getMessage(), **_extra(record)}
        said.setdefault("action", LIBRARY)
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return masked(self.line(record.created, record.levelname.lower(), said))

    def line(self, at: float, level: str, said: Line) -> str:
        return _encode({"at": _moment(at), "level": level, **said})


class Text(logging.Formatter):
    """As people read it: the time of day, the action, what it was about."""

    def format(self, record: logging.LogRecord) -> str:
        said = {"action": record.levelname.lower(), **_extra(record)}
        if record.levelno >= logging.WARNING:
            said["action"] = f"{record.levelname.lower()}: {said['action']}"
        line = masked(self.line(record.created, "", {"action": said.pop("action"), "": record.getMessage(), **said}))
        if not record.exc_info:
            return line
        trace = self.formatException(record.exc_info).splitlines()
        return "\n    ".join([line, *(harmless(masked(each)) for each in trace)])

    def line(self, at: float, level: str, said: Line) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(at))
        words = [f"{name}={value}" if name else str(value) for name, value in said.items() if name != "action"]
        return harmless(f"{clock} {said['action']:<10} {' '.join(words)}")


def masked(text: str) -> str:
    """Without what looks like a token, or a password in a URL."""
    return _SECRET.sub(lambda match: f"{next((part for part in match.groups() if part), '')}***", text)


def harmless(text: str) -> str:
    """With what a terminal would obey spelled out."""
    return _UNSAFE.sub(lambda match: ascii(match.group())[1:-1], text)


def configure(form: Form = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Send all of Muster's records to standard error. `auto`: text if that is a terminal, else JSON."""
    handler = logging.StreamHandler(stream or sys.stderr)
    if form == "auto":
        form = "text" if handler.stream.isatty() else "json"
    handler.setFormatter(Text() if form == "text" else JsonLines())
    root = logging.getLogger("muster")
    root.handlers = [handler]
    root.setLevel(level.upper())
    root.propagate = False
    _hear_libraries(handler)


def _hear_libraries(ours: logging.Handler) -> None:
    """What they warn of comes in the same form, where nobody else listens to them."""
    everything = logging.getLogger()
    earlier = [one for one in everything.handlers if isinstance(one, _Libraries)]
    if earlier == everything.handlers:
        everything.handlers = [_Libraries(ours)]


class _Libraries(logging.Handler):
    """Hands on to the handler of our own records."""

    def __init__(self, ours: logging.Handler) -> None:
        super().__init__(logging.WARNING)
        self._ours = ours

    def emit(self, record: logging.LogRecord) -> None:
        self._ours.emit(record)


def tell(lines: Iterable[Line]) -> None:
    """One line for each, at level info, in one write: what a commit did. IDs and words only: nothing is masked."""
    if not logging.getLogger(MOVES).isEnabledFor(logging.INFO):
        return
    at = time.time()
    for handler in logging.getLogger("muster").handlers:
        form = handler.formatter
        if isinstance(handler, logging.StreamHandler) and isinstance(form, JsonLines | Text):
            _write(handler, "".join(f"{form.line(at, 'info', line)}\n" for line in lines))


def _write(handler: logging.StreamHandler[Any], text: str) -> None:
    """A log that cannot be written, on a full disk say, stops nobody's work."""
    handler.acquire()
    try:
        handler.stream.write(text)
        handler.flush()
    except (OSError, ValueError):
        pass
    finally:
        handler.release()


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


@lru_cache(maxsize=1)
def _moment(at: float) -> str:
    """Lines that are told together have one."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
