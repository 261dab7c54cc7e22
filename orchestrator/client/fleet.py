"""`Client`, what runs requests: templates, pools and gangs; docs/rest.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from orchestrator.client.caller import Caller
from orchestrator.client.explaining import Explanation
from orchestrator.client.paths import path as _path
from orchestrator.client.paths import records as _records
from orchestrator.client.records import Record


@dataclass(frozen=True, kw_only=True)
class Template(Record):
    """`spec` is the template as it was applied, defaults filled in; `input` is the JSON Schema of requests' input."""

    name: str
    version: int | None = None
    handler: str | None = None
    nodes: int | None = None
    ranks_per_node: int | None = None
    input: Mapping[str, Any] | None = None
    spec: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, document: object) -> Self:
        spec = document.get("spec") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(spec, dict):
            return super().read(document)
        return replace(super().read({**spec, **document}), raw=document)


@dataclass(frozen=True, kw_only=True)
class Pool(Record):
    name: str
    template: str | None = None
    template_version: int | None = None
    min: int | None = None
    max: int | None = None
    idle_timeout_s: float | None = None
    queued: int | None = None
    gangs: Mapping[str, Any] | None = None
    held: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rank(Record):
    rank: int
    node: str | None = None
    pid: int | None = None
    device: str | None = None
    ready: bool | None = None
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Replica(Record):
    """A part of a gang that runs requests of its own."""

    number: int
    first_rank: int | None = None
    ranks: int | None = None
    request: str | None = None


@dataclass(frozen=True, kw_only=True)
class Gang(Record):
    id: str
    state: str
    name: str | None = None
    template: str | None = None
    template_version: int | None = None
    mode: str | None = None
    reason: str | None = None
    world: int | None = None
    nodes: int | None = None
    incarnation: int | None = None
    ranks: tuple[Rank, ...] | None = None
    request: str | None = None
    replicas: tuple[Replica, ...] | None = None
    served: int | None = None
    planned_at: datetime | None = None
    launched_at: datetime | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    ready_at: datetime | None = None
    idle_since: datetime | None = None
    gone_at: datetime | None = None
    launch_seconds: Mapping[str, Any] | None = None
    link: Mapping[str, Any] | None = None


class Fleet(Caller):
    """One method for each thing that is done with a template, a pool or a gang."""

    def templates(self) -> tuple[Template, ...]:
        return _records(Template, self._send("GET", "/v1/templates").json())

    def template(self, name: str) -> Template:
        return Template.read(self._send("GET", _path("templates", name)).json())

    def apply_template(self, document: Mapping[str, Any]) -> Template:
        """Stores a template under its own name; the same content again keeps its version."""
        path = _path("templates", str(document["name"]))
        return Template.read(self._send("PUT", path, body=dict(document)).json())

    def remove_template(self, name: str) -> None:
        self._send("DELETE", _path("templates", name))

    def pools(self) -> tuple[Pool, ...]:
        return _records(Pool, self._send("GET", "/v1/pools").json())

    def pool(self, name: str) -> Pool:
        return Pool.read(self._send("GET", _path("pools", name)).json())

    def set_pool(
        self, name: str, *, min: int | None = None, max: int | None = None, idle_timeout: timedelta | None = None
    ) -> Pool:
        """Changes what is given and leaves the rest."""
        idle_timeout_s = None if idle_timeout is None else idle_timeout.total_seconds()
        wanted = {"min": min, "max": max, "idle_timeout_s": idle_timeout_s}
        body = {key: value for key, value in wanted.items() if value is not None}
        return Pool.read(self._send("PATCH", _path("pools", name), body=body).json())

    def drain_pool(self, name: str) -> tuple[Gang, ...]:
        """No gang of the pool is launched any more; those that live, which are returned, finish what they have."""
        return _records(Gang, self._send("POST", _path("pools", name, "drain")).json())

    def recycle_pool(self, name: str) -> tuple[Gang, ...]:
        """The gangs of the pool, which are returned, finish what they have and go; new ones come as they are wanted."""
        return _records(Gang, self._send("POST", _path("pools", name, "recycle")).json())

    def explain_pool(self, name: str) -> Explanation:
        """Why what waits for a template does not start."""
        return Explanation.read(self._send("GET", _path("pools", name, "explain")).json())

    def gangs(self, *, state: Sequence[str] = ()) -> tuple[Gang, ...]:
        params = {"state": ",".join(state)} if state else {}
        return _records(Gang, self._send("GET", "/v1/gangs", params=params).json())

    def gang(self, gang_id: str) -> Gang:
        return Gang.read(self._send("GET", _path("gangs", gang_id)).json())

    def explain_gang(self, gang_id: str) -> Explanation:
        return Explanation.read(self._send("GET", _path("gangs", gang_id, "explain")).json())

    def drain_gang(self, gang_id: str) -> Gang:
        """The gang finishes what it has, takes nothing new and goes."""
        return Gang.read(self._send("POST", _path("gangs", gang_id, "drain")).json())

    def gang_logs(self, gang_id: str, *, rank: str | int = 0, tail: int = 200) -> str:
        return self._send("GET", _path("gangs", gang_id, "logs"), params={"rank": rank, "tail": tail}).text()
