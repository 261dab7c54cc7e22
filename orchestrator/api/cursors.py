"""Cursors of lists: where a page ended, signed, good for the same tenant and the same question only. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

from orchestrator.errors import Invalid
from orchestrator.store.listing import Place

_MAC_BYTES = 16


def write(key: bytes, tenant: str, question: str, place: Place) -> str:
    """`question`: everything that was asked for but the size of the page."""
    said = json.dumps([place.created_at, place.id]).encode()
    return base64.urlsafe_b64encode(_mac(key, tenant, question, said) + said).rstrip(b"=").decode()


def read(key: bytes, tenant: str, question: str, cursor: str) -> Place:
    """Raises Invalid `bad_cursor` for what was not written with these arguments."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise _bad() from None
    mac, said = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, tenant, question, said)):
        raise _bad()
    created_at, request_id = json.loads(said)
    return Place(created_at=created_at, id=request_id)


def _mac(key: bytes, tenant: str, question: str, said: bytes) -> bytes:
    signed = b"\0".join([tenant.encode(), question.encode(), said])
    return hmac.new(key, signed, hashlib.sha256).digest()[:_MAC_BYTES]


def _bad() -> Invalid:
    return Invalid(
        "this cursor was not made here for this question: start without one", code="bad_cursor", pointer="/cursor"
    )
