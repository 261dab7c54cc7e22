"""From where in storage a tenant's batch may be read: below what the operator allows, and nowhere else. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.errors import Invalid

TENANT = "{tenant}"
"""Stands in an allowed prefix for the tenant that asks."""
_ODD = re.compile(r"::|[%?#*\\@\[\]{}]")
"""What could lead elsewhere than it looks: chained filesystems, escapes, queries, patterns, credentials."""


def check_url(url: str, allowed: Sequence[str], *, tenant: str, own: str) -> None:
    """Raises Invalid `url_not_allowed`. `own`: where the service keeps what it stores of all tenants."""
    prefixes = [prefix.rstrip("/").replace(TENANT, tenant) + "/" for prefix in allowed]
    below = any(url.startswith(prefix) for prefix in prefixes)
    if not below or not _plain(url) or url.startswith(own.rstrip("/") + "/"):
        where = ", ".join(prefixes) or "nothing (MUSTER_BATCH_URLS)"
        raise Invalid(f"/url: not below what the operator allows: {where}", code="url_not_allowed", pointer="/url")


def _plain(url: str) -> bool:
    """It leads where it looks: no detours, nothing that a filesystem would read as more than a name."""
    names = url.partition("://")[2].split("/")[1:]
    detours = any(name in ("", ".", "..") for name in names)
    return url.isprintable() and not detours and not _ODD.search(url)
