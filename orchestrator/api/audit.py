"""Who asked for which change, in the service's log: one line for each, refused ones too.

Not of submits, which are most of all calls and have a row each, nor of what changes nothing but is sent as a form.
"""

from __future__ import annotations

import logging

from starlette.types import Scope

from orchestrator.domain.access import Identity

log = logging.getLogger("muster.audit")

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_LEFT_OUT = frozenset(
    {
        "POST /v1/requests",
        "PUT /v1/requests/{request_id}",
        "POST /v1/requests:validate",
        "POST /templates/{name}/submit",
        "POST /templates/{name}/check",
        "POST /schedules/_preview",
        "POST /schedules/_runs",
    }
)
_LONGEST = 300


def note(scope: Scope, route: str, status: int) -> None:
    """After a call, whatever became of it."""
    method, identity = scope["method"], scope.get("state", {}).get("identity")
    if method in _READS or not isinstance(identity, Identity) or f"{method} {route}" in _LEFT_OUT:
        return
    path = scope["path"][:_LONGEST]
    told = {"who": identity.name, "tenant": identity.tenant, "method": method, "path": path, "status": status}
    log.info("%s %s", method, path, extra={"action": "change_asked", **told})
