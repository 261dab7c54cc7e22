"""What every loop works with, and what it reports. A loop is a run_once() -> Report; the timer is elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.backends.places import Places
from orchestrator.settings import Settings
from orchestrator.store.database import Database
from orchestrator.store.gangs import Ended


class Wake(Protocol):
    """Let those who wait look, after a commit."""

    def __call__(self, *, gangs: Iterable[str] = (), requests: Iterable[str] = ()) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Desk:
    """One replica's tools."""

    database: Database
    places: Places
    settings: Settings
    wake: Wake

    def settle(self, ended: Ended | None) -> None:
        """Wake whoever waited for a gang that ended."""
        if ended is not None:
            self.wake(gangs=[ended.gang], requests=[finished.request for finished in ended.requests])


@dataclass(kw_only=True)
class Report:
    """What one pass did, by verb: logged when it is not empty."""

    did: dict[str, list[str]] = field(default_factory=dict)

    def note(self, verb: str, *subjects: str) -> None:
        if subjects:
            self.did.setdefault(verb, []).extend(subjects)

    def __bool__(self) -> bool:
        return bool(self.did)
