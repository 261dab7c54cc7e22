"""Which due deliveries are sent now: a receiver that is dead or slow must starve nobody. Pure.

A lane is one tenant's deliveries to one receiver (`tenant https://host:port`), whatever number of webhooks lead there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

SLOTS = 32
"""Sends that one replica has open at once."""
LANE = 4
"""Of them to one receiver that answers; one that failed last gets a single one."""


class Queued(Protocol):
    """What is looked at of a delivery."""

    @property
    def lane(self) -> str: ...


Q = TypeVar("Q", bound=Queued)


def lane_of(tenant: str, origin: str) -> str:
    return f"{tenant} {origin}"


def choose(due: Sequence[Q], open_: Sequence[str], ailing: Collection[str]) -> list[Q]:
    """In order of `due`, as many as there is room for beside the sends that are open (by their lanes).

    All ailing lanes together, and each tenant, get at most half of the slots.
    """
    lanes, tenants = Counter(open_), Counter(map(_tenant, open_))
    ill = sum(lanes[lane] for lane in ailing)
    free = SLOTS - len(open_)
    chosen: list[Q] = []
    for one in due:
        if len(chosen) >= free:
            break
        sick, tenant = one.lane in ailing, _tenant(one.lane)
        if lanes[one.lane] >= (1 if sick else LANE) or tenants[tenant] >= SLOTS // 2 or (sick and ill >= SLOTS // 2):
            continue
        lanes[one.lane] += 1
        tenants[tenant] += 1
        ill += sick
        chosen.append(one)
    return chosen


def _tenant(lane: str) -> str:
    return lane.partition(" ")[0]
