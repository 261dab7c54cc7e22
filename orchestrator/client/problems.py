"""From what the service answered to an exception of the one tree, in one place.

The exception's cause is the problem document itself (RFC 9457), for those who want more than a class and a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import Conflict, Forbidden, Invalid, MusterError, NotFound, Unauthorized, Unavailable

KINDS: Mapping[int, type[MusterError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    412: Conflict,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
TYPE = "application/problem+json"
LISTED = 20  # errors named in one message


class ProblemDocument(Exception):
    """What the service said went wrong. Only ever the cause of a MusterError."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(document.get("code") or document.get("title"))
        self.document = document


def problem_of(error: BaseException) -> Mapping[str, Any] | None:
    """The problem document that the service sent, if `error` came from an answer of the service."""
    return error.__cause__.document if isinstance(error.__cause__, ProblemDocument) else None


def error_of(status: int, content_type: str, content: bytes, url: str) -> MusterError:
    """The error for an answer of 400 and above."""
    document = _document(content_type, content)
    kind = _kind(status)
    if document is None:
        hint = "" if status < 500 else "; is a Muster service behind this address?"
        document = {"title": f"{url} answered {status}{hint}", "status": status, "code": kind.code}
    first = next(iter(_errors(document)), {})
    error = kind(_sentence(document), code=_text(document.get("code")), pointer=_text(first.get("pointer")))
    error.__cause__ = ProblemDocument(document)
    return error


def _kind(status: int) -> type[MusterError]:
    return KINDS.get(status, MusterError if status >= 500 else Invalid)


def _document(content_type: str, content: bytes) -> Mapping[str, Any] | None:
    if not content_type.startswith((TYPE, "application/json")):
        return None
    try:
        document = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _sentence(document: Mapping[str, Any]) -> str:
    said = _text(document.get("detail")) or _text(document.get("title")) or "the service refused without a reason"
    places = [_place(error) for error in _errors(document)[:LISTED]]
    return "\n  ".join([said, *(place for place in places if place not in said)])


def _place(error: Mapping[str, Any]) -> str:
    pointer, message = str(error.get("pointer") or "/"), str(error.get("message"))
    return message if message.startswith(pointer) else f"{pointer}: {message}"


def _errors(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    errors = document.get("errors")
    return [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
