"""What the service answers, as frozen records. Fields that we do not know are kept in `raw`, never refused."""

from __future__ import annotations

import types
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Any, Generic, Self, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from orchestrator.errors import Unavailable

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Record:
    """`raw` is the document as it came: print that where people ask for JSON."""

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, document: object) -> Self:
        """The record in `document`. Raises Unavailable when it is not what docs/rest.md promises."""
        if not isinstance(document, dict):
            raise _unexpected(cls, "is not an object")
        try:
            given = {
                name: _value(hint, document[name])
                for name, hint in _hints(cast(Hashable, cls)).items()
                if name in document
            }
            return cls(raw=document, **given)
        except (TypeError, ValueError) as error:
            raise _unexpected(cls, str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Placement(Record):
    kind: str
    reason: str | None = None
    gang: str | None = None
    ranks: int | None = None
    first_rank: int | None = None


@dataclass(frozen=True, kw_only=True)
class Progress(Record):
    phase: str | None = None
    current: float | None = None
    total: float | None = None
    fraction: float | None = None
    eta_s: float | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Output(Record):
    name: str
    media_type: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    expires_at: datetime | None = None
    expired: bool = False
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class File(Record):
    """An upload: give its ID where an input wants a file."""

    id: str
    name: str
    bytes: int
    sha256: str
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Failure(Record):
    """Why a request failed. `rank` and `node` name the root cause, not the loudest rank."""

    code: str
    message: str | None = None
    retryable: bool | None = None
    rank: int | None = None
    node: str | None = None
    attempt: int | None = None
    phase: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, kw_only=True)
class Request(Record):
    id: str
    status: str
    is_terminal: bool
    version: int | None = None
    template: str | None = None
    template_version: int | None = None
    mode: str | None = None
    placement: Placement | None = None
    phase: str | None = None
    waiting: str | None = None
    progress: Progress | None = None
    attempt: int | None = None
    max_attempts: int | None = None
    priority: int | None = None
    retry_of: str | None = None
    input: Any = None
    batch: str | None = None
    custom_id: str | None = None
    labels: Mapping[str, Any] | None = None
    result: Any = None
    outputs: tuple[Output, ...] | None = None
    error: Failure | None = None
    metrics: Mapping[str, Any] | None = None
    created_at: datetime | None = None
    assigned_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"


@dataclass(frozen=True, kw_only=True)
class Validation(Record):
    """What would become of a request. `starts_in_s` is a guess, None without experience."""

    template: str
    template_version: int | None = None
    mode: str | None = None
    input: Any = None
    placement: Placement | None = None
    starts_in_s: float | None = None
    timeout_s: float | None = None
    max_attempts: int | None = None


@dataclass(frozen=True, kw_only=True)
class LogChunk(Record):
    """Some lines of one rank; `at` by the pod's clock."""

    rank: int
    text: str
    attempt: int | None = None
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Event(Record):
    seq: int
    move: str
    at: datetime | None = None
    data: Any = None


@dataclass(frozen=True, kw_only=True)
class Finding(Record):
    """Something that is true of what was asked about. `code` is stable; `figures` are what the sentence says."""

    code: str
    sentence: str
    figures: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Step(Record):
    """Something that can be done now."""

    sentence: str
    command: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cause(Record):
    """Why it failed. `whose` is user, infra or operator."""

    code: str
    whose: str | None = None
    message: str | None = None
    rank: int | None = None
    node: str | None = None
    phase: str | None = None
    step: int | None = None
    traceback: str | None = None
    log: str | None = None


@dataclass(frozen=True, kw_only=True)
class Explanation(Record):
    """Why a request, a gang or a pool is where it is."""

    of: str
    kind: str
    status: str
    summary: str | None = None
    findings: tuple[Finding, ...] = ()
    next: tuple[Step, ...] = ()
    cause: Cause | None = None


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
    ready_at: datetime | None = None
    idle_since: datetime | None = None
    gone_at: datetime | None = None
    launch_seconds: Mapping[str, Any] | None = None
    link: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Token(Record):
    """`token` is the secret itself; the service shows it once, in the answer that creates it."""

    id: str
    token: str | None = field(default=None, repr=False)
    name: str | None = None
    scopes: tuple[str, ...] | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Readiness(Record):
    """Whether the service takes work, database included; `raw` holds its own words."""

    ok: bool


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    data: tuple[T, ...]
    has_more: bool = False
    next_cursor: str | None = None


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    """Type of each field but `raw`, worked out once for each record class."""
    hints = get_type_hints(kind)
    return {name: hint for name, hint in hints.items() if name != "raw"}


def _value(hint: Any, given: Any) -> Any:
    """`given` as `hint` wants it; raises TypeError or ValueError."""
    origin = get_origin(hint)
    if hint is Any:
        return given
    if origin in (Union, types.UnionType):
        wanted = [one for one in get_args(hint) if one is not types.NoneType]
        return None if given is None else _value(wanted[0], given)
    if origin is tuple:
        return tuple(_value(get_args(hint)[0], one) for one in _checked(list, given))
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.read(given)
    if hint is datetime:
        return datetime.fromisoformat(_checked(str, given))
    if hint is float:
        return float(_checked((int, float), given))
    return _checked(dict if origin is not None else hint, given)


def _checked(kind: Any, given: Any) -> Any:
    if not isinstance(given, kind) or (isinstance(given, bool) and kind is not bool):
        raise TypeError(f"{str(given)[:40]!r} is not of type {getattr(kind, '__name__', 'number')}")
    return given


def _unexpected(kind: type[Record], why: str) -> Unavailable:
    return Unavailable(
        f"the service answered a {kind.__name__.lower()} that this client cannot read ({why}): "
        "are both of the same version? `muster doctor` tells",
        code="unexpected_answer",
    )
