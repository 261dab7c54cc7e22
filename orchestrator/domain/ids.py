"""Names of things: a prefix that says what it is and a ULID, lower case, so that IDs sort by time."""

from __future__ import annotations

import re
import secrets

from ulid import ULID

_CONSONANTS = "bcdfghjkmnpqrstvwxz"


def new_id(prefix: str) -> str:
    """`req_01k…`: prefix, underscore, 26 characters of Crockford base32 (48 bits of milliseconds, 80 random)."""
    return f"{prefix}_{str(ULID()).lower()}"


def gang_name(template: str, mode: str) -> str:
    """A name for the backend: DNS-1035, at most 40 characters, never used twice, without accidental words."""
    stem = re.sub(r"[^a-z0-9-]+", "-", template.lower()).strip("-")[:22].strip("-")
    tail = "".join(secrets.choice(_CONSONANTS) for _ in range(10))
    return f"m-{mode[0]}-{stem}-{tail}" if stem else f"m-{mode[0]}-{tail}"


def new_token() -> str:
    """256 random bits for a credential."""
    return secrets.token_urlsafe(32)


def lease_token() -> str:
    """128 random bits for a lease."""
    return secrets.token_hex(16)
