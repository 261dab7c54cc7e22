"""Puts the rooms together: `up` runs everything on this machine, `serve` one replica over a given database."""

from __future__ import annotations

from orchestrator.service.offline import first_token, list_tenants, migrate, set_tenant
from orchestrator.service.running import serve, up

__all__ = ["first_token", "list_tenants", "migrate", "serve", "set_tenant", "up"]
