"""The state machines: every word a row may hold, and every legal move between them.

These tables feed the guard of each move in the store, the CHECK constraints, docs/states.md and the generated test
"every move in every state". Pure: no clock, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RequestState(StrEnum):
    QUEUED = "queued"
    """Recorded; waits for a gang, or for the end of a backoff. Entered by record and retry."""
    ASSIGNED = "assigned"
    """A live attempt holds a lease on one incarnation, which has not yet said that it runs."""
    RUNNING = "running"
    """The incarnation beat for the attempt. After a crash of the service it stays: the lease decides."""
    CANCELING = "canceling"
    """A cancel was accepted while an attempt lives. Nothing new starts."""
    SUCCEEDED = "succeeded"
    """The first accepted result, with its outputs. Final."""
    FAILED = "failed"
    """The handler failed, or no try was left, or no gang could be started. Final, with the cause."""
    CANCELED = "canceled"
    """Canceled before any result was accepted. Final."""
    EXPIRED = "expired"
    """The deadline to start passed while it was queued."""


TERMINAL = frozenset({RequestState.SUCCEEDED, RequestState.FAILED, RequestState.CANCELED, RequestState.EXPIRED})
LEASED = frozenset({RequestState.ASSIGNED, RequestState.RUNNING, RequestState.CANCELING})


class GangState(StrEnum):
    PLANNED = "planned"
    """Intent only: the row exists, nothing was asked of the backend yet."""
    LAUNCHING = "launching"
    """The backend was asked. No rank of the current incarnation has said hello."""
    LOADING = "loading"
    """An incarnation said hello; not all ranks are ready."""
    READY = "ready"
    """All ranks of one incarnation are ready. Shown as idle or busy: busy means a live lease, counted, not stored."""
    DRAINING = "draining"
    """Takes no new work; ends when its lease does."""
    GONE = "gone"
    """Not wanted any more, with a reason. Its processes may still be ending."""


class BatchState(StrEnum):
    VALIDATING = "validating"
    """Known by its source; its lines are being looked at. It has no items yet."""
    QUEUED = "queued"
    """All lines were looked at, its items are recorded; none has a gang since it was queued."""
    RUNNING = "running"
    """Items are on gangs, or were."""
    PAUSED = "paused"
    """No item starts until it is resumed; what runs goes on."""
    FINALIZING = "finalizing"
    """No item starts any more: what waits is ended, what runs ends. `ending` says which state comes then."""
    COMPLETED = "completed"
    """Every item is over. `outcome` says how they ended."""
    CANCELED = "canceled"
    """Canceled; what had succeeded before stays."""
    EXPIRED = "expired"
    """Its deadline passed; what had succeeded before stays."""
    FAILED = "failed"
    """Its lines were refused, too many items failed, or no gang could be started."""


BATCH_OVER = frozenset({BatchState.COMPLETED, BatchState.CANCELED, BatchState.EXPIRED, BatchState.FAILED})
BATCH_SERVED = frozenset({BatchState.QUEUED, BatchState.RUNNING})
"""States in which items may start."""


class BatchOutcome(StrEnum):
    """How the items of a batch that is over ended."""

    ALL_SUCCEEDED = "all_succeeded"
    PARTIAL = "partial"
    NONE_SUCCEEDED = "none_succeeded"


class BatchReason(StrEnum):
    """Why a batch is paused or did not complete."""

    REFUSED = "refused"
    """Its lines cannot be accepted."""
    UNREADABLE = "unreadable"
    """Its source cannot be read."""
    MAX_FAILED = "max_failed"
    """More items failed than it may have."""
    NO_GANG = "no_gang"
    """No gang of its template could be started."""
    NAMESPACE_GONE = "namespace_gone"
    """The namespace of its tenant's gangs is gone, or does not let Muster in."""
    DEADLINE = "deadline"
    ASKED = "asked"
    """By a person."""


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    LOST = "lost"


@dataclass(frozen=True, kw_only=True)
class Move:
    """One legal change: from any of `sources` to `target`. One function of the store makes it, one event records it."""

    name: str
    sources: frozenset[str]
    target: str
    meaning: str

    @property
    def guard(self) -> list[str]:
        """The sources as a SQL parameter."""
        return sorted(self.sources)


def _moves(*rows: tuple[str, str, str, str]) -> dict[str, Move]:
    return {
        name: Move(name=name, sources=frozenset(sources.split()), target=target, meaning=meaning)
        for name, sources, target, meaning in rows
    }


REQUEST_MOVES = _moves(
    ("record", "", "queued", "accepted; durable before the caller is told"),
    ("place", "queued", "queued", "its pool may hold no gang any more: it gets a gang of its own"),
    ("assign", "queued", "assigned", "a gang got the lease: new attempt number, new token"),
    ("start", "assigned", "running", "the first beat of the attempt arrived"),
    ("succeed", "assigned running", "succeeded", "the first accepted result; final"),
    ("retry", "assigned running", "queued", "the attempt was lost or failed for infrastructure; tries are left"),
    ("fail", "queued assigned running", "failed", "the handler failed, or no try is left"),
    ("cancel", "queued", "canceled", "nothing had started"),
    ("ask_cancel", "assigned running", "canceling", "the live attempt is told at its next step"),
    ("end_cancel", "canceling", "canceled", "the attempt stopped, finished or was lost"),
    ("expire", "queued", "expired", "the deadline to start passed"),
)

GANG_MOVES = _moves(
    ("plan", "", "planned", "the intent to have a gang"),
    ("launch", "planned launching", "launching", "the backend was asked; asked again after a crash in between"),
    ("hello", "planned launching loading ready", "loading", "rank 0 of a new incarnation said hello"),
    ("ready", "loading", "ready", "the last rank of the incarnation finished its setup"),
    ("break", "loading ready", "launching", "an incarnation ended; its ranks may come back by themselves"),
    ("drain", "planned launching loading ready", "draining", "no new work"),
    ("end", "planned launching loading ready draining", "gone", "not wanted any more; the backend stops it"),
)

BATCH_MOVES = _moves(
    ("record", "", "validating", "its source is known; its lines are looked at next"),
    ("accept", "validating", "queued", "all lines were looked at, and its items recorded in the same transaction"),
    ("refuse", "validating", "failed", "its lines or its source cannot be accepted; it has no items"),
    ("start", "queued", "running", "the first item got a gang"),
    ("pause", "queued running", "paused", "by a person, or because too many items failed"),
    ("resume", "paused", "queued", "items may start again"),
    ("end", "validating queued running paused", "finalizing", "all items are over, or no more are to start"),
    ("halt", "finalizing", "finalizing", "canceled while it expired or failed: what runs is asked to stop too"),
    ("complete", "finalizing", "completed", "every item is over"),
    ("cancel", "finalizing", "canceled", "every item is over after a cancel"),
    ("expire", "finalizing", "expired", "every item is over after the deadline"),
    ("fail", "finalizing", "failed", "every item is over after too many failed or no gang started"),
    ("reopen", "completed canceled expired failed", "queued", "what did not succeed is tried again"),
)


class Reason(StrEnum):
    """Why a request failed or an attempt was lost. Few states, many reasons."""

    INVALID_INPUT = "invalid_input"
    HANDLER_ERROR = "handler_error"
    INPUT_MISSING = "input_missing"
    INPUT_CORRUPT = "input_corrupt"
    DOWNLOAD_FAILED = "download_failed"
    ARTIFACT_MISSING = "artifact_missing"
    OUTPUT_TOO_LARGE = "output_too_large"
    BAD_OUTPUT = "bad_output"
    OOM = "oom"
    DISK_FULL = "disk_full"
    TIMEOUT = "timeout"
    NO_PROGRESS = "no_progress"
    UPLOAD_FAILED = "upload_failed"
    RANK_FAILED = "rank_failed"
    LEASE_EXPIRED = "lease_expired"
    SUPERSEDED = "superseded"
    GANG_LOST = "gang_lost"
    PREFLIGHT_FAILED = "preflight_failed"
    SETUP_FAILED = "setup_failed"
    WARMUP_FAILED = "warmup_failed"
    START_TIMEOUT = "start_timeout"
    LAUNCH_FAILED = "launch_failed"
    NAMESPACE_GONE = "namespace_gone"
    POISONED = "poisoned"
    DEADLINE = "deadline"
    NO_WARM_POOL = "no_warm_pool"
    DRAINED = "drained"
    IDLE = "idle"
    REPLACED = "replaced"
    RECYCLED = "recycled"
    UNHEALTHY = "unhealthy"
    STOPPED = "stopped"


class Fault(StrEnum):
    """Whose fault a failure is: it decides whether another try makes sense."""

    USER = "user"
    INFRA = "infra"


FAULTS: dict[Reason, Fault] = {
    Reason.INVALID_INPUT: Fault.USER,
    Reason.HANDLER_ERROR: Fault.USER,
    Reason.INPUT_MISSING: Fault.USER,
    Reason.INPUT_CORRUPT: Fault.INFRA,
    Reason.DOWNLOAD_FAILED: Fault.INFRA,
    Reason.ARTIFACT_MISSING: Fault.USER,
    Reason.OUTPUT_TOO_LARGE: Fault.USER,
    Reason.BAD_OUTPUT: Fault.USER,
    Reason.OOM: Fault.USER,
    Reason.DISK_FULL: Fault.INFRA,
    Reason.TIMEOUT: Fault.USER,
    Reason.NO_PROGRESS: Fault.INFRA,
    Reason.UPLOAD_FAILED: Fault.INFRA,
    Reason.RANK_FAILED: Fault.INFRA,
    Reason.LEASE_EXPIRED: Fault.INFRA,
    Reason.SUPERSEDED: Fault.INFRA,
    Reason.GANG_LOST: Fault.INFRA,
    Reason.PREFLIGHT_FAILED: Fault.INFRA,
    Reason.SETUP_FAILED: Fault.USER,
    Reason.WARMUP_FAILED: Fault.USER,
    Reason.START_TIMEOUT: Fault.INFRA,
    Reason.LAUNCH_FAILED: Fault.INFRA,
    Reason.NAMESPACE_GONE: Fault.INFRA,
    Reason.POISONED: Fault.USER,
    Reason.DEADLINE: Fault.USER,
    Reason.NO_WARM_POOL: Fault.INFRA,
    Reason.DRAINED: Fault.INFRA,
    Reason.IDLE: Fault.INFRA,
    Reason.REPLACED: Fault.INFRA,
    Reason.RECYCLED: Fault.INFRA,
    Reason.UNHEALTHY: Fault.INFRA,
    Reason.STOPPED: Fault.INFRA,
}
