"""The port to a place where gangs run, and the words it speaks. One conformance suite holds every backend to it.

It knows launch names, processes or pods, and phases. It must not know requests, leases, Postgres or HTTP: what a phase
means for the work is decided elsewhere, by heartbeats. A phase is a hint that may speed a decision up, never the proof
of life.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

LOG_TAIL_BYTES = 64 * 1024


class Phase(StrEnum):
    PENDING = "pending"  # known to the backend, not every node runs yet
    RUNNING = "running"  # every node ran when last looked at
    SUCCEEDED = "succeeded"  # every node ended with exit code 0
    FAILED = "failed"  # at least one node ended otherwise


@dataclass(frozen=True, kw_only=True)
class LaunchSpec:
    """What to start. `name` is DNS-safe, at most 40 characters, and never used for a second gang."""

    gang: str
    name: str
    mode: str  # "serve" | "batch"
    nodes: int
    ranks_per_node: int
    api_urls: tuple[str, ...]
    token: str = field(repr=False)
    template: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Launched:
    """`ref` identifies this very object at the backend (a folder, a Kubernetes UID), even if its name came back."""

    ref: str
    adopted: bool  # it was there before; this call started nothing new


@dataclass(frozen=True, kw_only=True)
class Failed:
    """What is known of the first rank that failed in a FAILED gang. `words`: the last lines that its node's ranks
    wrote."""

    node: int
    rank: int
    words: str


@dataclass(frozen=True, kw_only=True)
class Moments:
    """How the nodes came, by the clocks of the place, which may differ from ours. None: the last one has not yet."""

    made: datetime
    """When the place took the gang."""
    scheduled: datetime | None = None
    """When the last node got its machine."""
    started: datetime | None = None
    """When the last node's container began to run."""
    word: str | None = None
    """What was said of its image."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One gang as the backend sees it. `reason` is a word for programs, `detail` a sentence for people."""

    gang: str
    name: str
    phase: Phase
    reason: str | None = None
    detail: str | None = None
    nodes_running: int = 0
    failed: Failed | None = None
    moments: Moments | None = None
    """None where the place has no such steps, or does not say when."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """What somebody should find who looks at a gang where it runs. `state` is a word, `why` a sentence."""

    gang: str
    name: str
    state: str
    why: str | None = None
    incarnation: int = 0
    serving: str | None = None
    """The request that it runs."""
    served: int = 0
    went_wrong: bool = False


class Backend(Protocol):
    """Where gangs run. Every call may raise BackendError; every call may be repeated."""

    @property
    def name(self) -> str:
        """Which place this is: gangs are launched, missed and stopped by the place whose name they carry."""
        ...

    def launch(self, spec: LaunchSpec) -> Launched:
        """Start the gang, or adopt what carries its name and its gang ID, running or ended.

        Raises BackendError "name_taken" when another gang has the name.
        """
        ...

    def rehearse(self, spec: LaunchSpec) -> None:
        """Whether launch() would be refused, as far as that can be known with nothing started.

        Raises BackendError "rejected" when it would be, and always.
        """
        ...

    def observe(self) -> tuple[Observed, ...]:
        """Everything of ours that exists, sorted by name: also what ended and what is being stopped.

        May be a little behind. Raises BackendError rather than to answer from what it cannot know to be so still.
        """
        ...

    def look(self, name: str) -> Observed | None:
        """One gang as it is right now. None is proof that nothing of it is left; absence in observe() is a hint."""
        ...

    def stop(self, name: str, grace: timedelta) -> None:
        """Ask every process of the gang to end, kill what is left after `grace`, then remove every trace.

        Returns once that is under way, it does not wait for the end: the gang leaves observe() when nothing of it runs
        any more. An unknown name is no error; of two calls the earlier deadline holds.
        """
        ...

    def logs(self, name: str, *, node: int = 0, tail_bytes: int = LOG_TAIL_BYTES) -> str:
        """The last bytes one node wrote to stdout and stderr. Raises BackendError "not_found"."""
        ...

    def tell(self, story: Story) -> None:
        """Show it where the place shows such things; what is shown already costs nothing. May be late or left out."""
        ...

    def close(self) -> None:
        """Let go of connections. Gangs run on."""
        ...
