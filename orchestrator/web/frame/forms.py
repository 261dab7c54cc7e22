"""What a form sends: URL-encoded fields, bounded before they are read."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request

from orchestrator.errors import Invalid

MOST_BYTES = 2 << 20
MOST_FIELDS = 1000


Pairs = list[tuple[str, str]]


async def fields(request: Request) -> dict[str, str]:
    """The fields by name; of a name that comes twice the last one. Raises Invalid."""
    return dict(await pairs(request))


async def pairs(request: Request) -> Pairs:
    """Every field as it came, but for the NUL that nobody can type and Postgres cannot keep. Raises Invalid."""
    found = _parsed(await _body(request))
    if any("\0" in name or "\0" in text for name, text in found):
        raise Invalid("a field holds the character NUL, which cannot be stored", code="invalid_string")
    return found


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > MOST_BYTES:
            raise Invalid(f"a form of more than {MOST_BYTES >> 20} MiB", code="too_large")
    return bytes(body)


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
