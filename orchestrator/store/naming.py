"""Files that open requests name in their inputs: as long as one does, the bytes stay. Uploads and outputs alike."""

from __future__ import annotations

from datetime import timedelta

HOLD = timedelta(hours=1)
"""How long a file stays at least once a request is about to name it: far longer than it takes to record that one."""
HELD = "expires_at = greatest(expires_at, clock_timestamp() + :hold * interval '1 second')"
"""SQL of an UPDATE that holds a file; `hold` in seconds."""


def unnamed(tenant: str, this: str) -> str:
    """SQL: no open request of the tenant names a file. Arguments are SQL, `this` over `named.value`: it is this one."""
    return (
        "NOT EXISTS (SELECT FROM request r JOIN payload l ON l.request_id = r.id, jsonb_each(l.files) named"
        f" WHERE r.next_check_at IS NOT NULL AND r.tenant = {tenant} AND {this})"
    )
