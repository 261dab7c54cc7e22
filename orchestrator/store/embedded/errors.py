"""The one error of this package, so that a caller can tell "no embedded Postgres here" from a fault of the service.

Must not know: anything; every other file here imports it.
"""

from __future__ import annotations

from orchestrator.errors import MusterError


class EmbeddedPostgresError(MusterError):
    """The embedded Postgres cannot be started or kept; the text says what stands in the way and what to do."""

    code = "embedded_postgres"
