"""When a gang has served long enough: by age, requests, memory growth, failures in a row. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

FAR = 2.0
"""So many times over its limit a gang goes at once, whether or not another one is there to take its place."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The template's `recycle`; None means no such limit."""

    max_age: timedelta | None = None
    max_requests: int | None = None
    max_growth_bytes: int | None = None
    max_failures: int | None = None

    @property
    def limits_anything(self) -> bool:
        return any((self.max_age, self.max_requests, self.max_growth_bytes, self.max_failures))


@dataclass(frozen=True, kw_only=True)
class Wear:
    """What a gang has been through. `growth_bytes`: of its rank that grew most since its first request."""

    age: timedelta = timedelta()
    requests: int = 0
    growth_bytes: int = 0
    failures: int = 0


@dataclass(frozen=True, kw_only=True)
class Worn:
    """Why a gang should go; `far`: without waiting for another one."""

    why: str
    far: bool


def worn(policy: Policy, wear: Wear) -> Worn | None:
    """The limit that is passed by most, if any is."""
    over = max(_shares(policy, wear), default=(0.0, ""))
    return Worn(why=over[1], far=over[0] >= FAR) if over[0] >= 1 else None


def _shares(policy: Policy, wear: Wear) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    if policy.max_age:
        found.append((wear.age / policy.max_age, f"{wear.age.total_seconds():.0f} s old"))
    if policy.max_requests:
        found.append((wear.requests / policy.max_requests, f"served {wear.requests} requests"))
    if policy.max_growth_bytes:
        share = wear.growth_bytes / policy.max_growth_bytes
        found.append((share, f"a rank's memory grew by {wear.growth_bytes >> 20} MiB"))
    if policy.max_failures:
        found.append((wear.failures / policy.max_failures, f"{wear.failures} failures in a row"))
    return found
