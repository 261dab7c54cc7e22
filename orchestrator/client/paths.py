"""Where things are, and lists of them: what every part of the client needs."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import quote

from orchestrator.client.records import Record
from orchestrator.errors import Unavailable

R = TypeVar("R", bound=Record)


def path(*parts: str) -> str:
    """`/v1/…`: no part can leave its place."""
    return "/v1/" + "/".join(quote(part, safe="") if part not in (".", "..") else "%2E" * len(part) for part in parts)


def records(kind: type[R], document: object) -> tuple[R, ...]:
    """The things of a list. Raises Unavailable for what is no list."""
    listed = document.get("data") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise Unavailable(
            "the answer is not a list: is a Muster service behind this address?", code="unexpected_answer"
        )
    return tuple(kind.read(one) for one in listed)
