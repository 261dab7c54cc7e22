"""How an installation stands at one moment, in numbers: what waits, what runs, what its pools hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PoolStanding:
    """One pool; of templates that two tenants call alike, the sums."""

    min_gangs: int
    max_gangs: int
    held: bool
    """Starts failed: no gang is started for now."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """All tenants together, by template."""

    requests: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Open ones, by (template, state)."""
    oldest_s: Mapping[str, float] = field(default_factory=dict)
    """How long the oldest queued request has waited, in seconds."""
    gangs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Not gone, by (template, state); a ready one is idle or busy."""
    pools: Mapping[str, PoolStanding] = field(default_factory=dict)
    """Current ones, by template."""
    batches: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Not over, by (template, state)."""
    batches_idle: Mapping[str, int] = field(default_factory=dict)
    """Of them, those whose items may start and are on no gang, by template."""
    deliveries: int = 0
    """Messages of webhooks that are not sent yet; counted up to 100,000."""
    oldest_delivery_s: float = 0.0
    """How long the oldest of them has waited, in seconds."""
    tenants: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Open requests by (tenant, state)."""
