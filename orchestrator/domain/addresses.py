"""Where the gangs of each tenant run, by the names of places. Pure: a place is a name that a gang's row carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """A gang is launched where its tenant's gangs run now; it stays where it was launched."""

    home: str
    """Of tenants without a place of their own."""
    own: Mapping[str, str] = field(default_factory=dict)
    """By tenant."""
    former: tuple[str, ...] = ()
    """Of earlier settings: nothing is launched there any more, and what is there still is looked after."""

    def of(self, tenant: str) -> str:
        """Where new gangs of the tenant are launched."""
        return self.own.get(tenant, self.home)

    @property
    def current(self) -> tuple[str, ...]:
        """Where gangs are launched."""
        return tuple(dict.fromkeys((self.home, *self.own.values())))

    @property
    def all(self) -> tuple[str, ...]:
        """Where gangs may be found."""
        return (*self.current, *self.former)

    def elsewhere(self, tenant: str) -> tuple[str, ...]:
        """Where gangs of the tenant may be found, and should not run any more."""
        return tuple(place for place in self.all if place != self.of(tenant))
