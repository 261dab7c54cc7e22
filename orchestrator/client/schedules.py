"""`Client.schedules`: requests and batches at the times of a cron rule; docs/schedules.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.client.paths import path, records
from orchestrator.client.records import Record
from orchestrator.client.transport import Answer


@dataclass(frozen=True, kw_only=True)
class Fire(Record):
    """A tick and what became of it."""

    tick: datetime
    state: str
    due_at: datetime | None = None
    reason_code: str | None = None
    reason: str | None = None
    triggered: bool | None = None
    version: int | None = None
    request: str | None = None
    batch: str | None = None
    decided_at: datetime | None = None

    @property
    def run(self) -> str | None:
        """The ID of the request or batch that it started."""
        return self.request or self.batch


@dataclass(frozen=True, kw_only=True)
class Schedule(Record):
    id: str
    name: str
    state: str
    cron: str
    timezone: str
    version: int | None = None
    overlap: str | None = None
    misfire: str | None = None
    runs: Mapping[str, Any] | None = None
    next_fires: tuple[datetime, ...] | None = None
    last_fire: Fire | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Schedules:
    """One method for each thing that docs/schedules.md offers. `schedule`: its ID or name."""

    def __init__(self, send: Callable[..., Answer]) -> None:
        self._send = send

    def create(self, name: str, cron: str, runs: Mapping[str, Any], **policy: Any) -> Schedule:
        """`runs`: `{"request": {...}}` or `{"batch": {...}}`; `policy`: the other fields. What is None is left out."""
        said = {field: value for field, value in policy.items() if value is not None}
        body = {"name": name, "cron": cron, "runs": dict(runs), **said}
        return Schedule.read(self._send("POST", path("schedules"), body=body, repeatable=False).json())

    def list(self) -> tuple[Schedule, ...]:
        return records(Schedule, self._send("GET", path("schedules")).json())

    def get(self, schedule: str) -> Schedule:
        return Schedule.read(self._send("GET", path("schedules", schedule)).json())

    def change(self, schedule: str, **changes: Any) -> Schedule:
        """What is not named stays; None is the service's default."""
        return Schedule.read(self._send("PATCH", path("schedules", schedule), body=changes).json())

    def remove(self, schedule: str) -> None:
        """What it started goes on."""
        self._send("DELETE", path("schedules", schedule))

    def trigger(self, schedule: str) -> Fire:
        """Runs it now, once more each time that this is called."""
        return Fire.read(self._send("POST", path("schedules", schedule, "trigger"), repeatable=False).json())

    def pause(self, schedule: str) -> Schedule:
        return Schedule.read(self._send("POST", path("schedules", schedule, "pause")).json())

    def resume(self, schedule: str) -> Schedule:
        return Schedule.read(self._send("POST", path("schedules", schedule, "resume")).json())

    def fires(self, schedule: str, *, limit: int = 50) -> Iterator[Fire]:
        """Newest first, page after page."""
        params: dict[str, Any] = {"limit": min(limit, 200)}
        while limit > 0:
            page = self._send("GET", path("schedules", schedule, "fires"), params=params).json()
            found = records(Fire, page)[:limit]
            yield from found
            limit -= len(found)
            if not page.get("next_cursor"):
                return
            params["cursor"] = page["next_cursor"]
