"""Files that open requests name in their inputs: as long as one does, the bytes stay. Uploads and outputs alike."""

from __future__ import annotations

from datetime import timedelta

HOLD = timedelta(hours=1)
"""How long a file stays at least once a request is about to name it: far longer than it takes to record that one."""
HELD = "expires_at = greatest(expires_at, clock_timestamp() + :hold * interval '1 second')"
"""SQL of an UPDATE that holds a file; `hold` in seconds."""
NAMED = """named AS MATERIALIZED (
  SELECT DISTINCT r.tenant, f.value ->> 'file' AS file, f.value ->> 'uri' AS uri
  FROM request r JOIN payload l ON l.request_id = r.id CROSS JOIN LATERAL jsonb_each(l.files) f
  WHERE r.next_check_at IS NOT NULL AND r.tenant IN (SELECT tenant FROM due) AND l.files IS NOT NULL
)"""
"""A CTE after `due`, things of a `tenant` that would go: what open requests of these tenants name.

Read once for all that is due: to look for each thing by itself is to read 100,000 items that wait, each time.
"""
