"""What a form sends: URL-encoded fields, bounded before they are read."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request

from orchestrator.api.larder import LARDER, NOBODY
from orchestrator.errors import Invalid

MOST_BYTES = 2 << 20
OF_ANYBODY = 4 << 10
"""Of a form that needs no session."""
MOST_FIELDS = 1000


Pairs = list[tuple[str, str]]


async def fields(request: Request, most: int = MOST_BYTES) -> dict[str, str]:
    """The fields by name; of a name that comes twice the last one. Raises Invalid, Unavailable."""
    return dict(await pairs(request, most))


async def pairs(request: Request, most: int = MOST_BYTES) -> Pairs:
    """Every field as it came, but for the NUL that nobody can type and Postgres cannot keep.

    `most` bytes are read. Raises Invalid, Unavailable.
    """
    identity = getattr(request.state, "identity", None)
    found = _parsed(await LARDER.whole(request.stream(), most, identity.tenant if identity else NOBODY))
    if any("\0" in name or "\0" in text for name, text in found):
        raise Invalid("a field holds the character NUL, which cannot be stored", code="invalid_string")
    return found


def _parsed(body: bytes) -> Pairs:
    try:
        return parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=bool(body),
            max_num_fields=MOST_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise Invalid("this is no form") from None
