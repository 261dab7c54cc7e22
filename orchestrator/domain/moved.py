"""What is told of a committed move: to the log, and to whoever counts. Words and numbers, nothing that a user wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """One move of a request or, where `request` is None, of a gang, a batch, or many items of a batch together.

    `seconds`: how long what it ended had lasted.

    Queue until `assign`, attempt until its end, wait of what never started; of gangs: launch until `hello` and `ready`,
    plan until `launch`, life until `end`.
    """

    move: str
    state: str
    tenant: str
    template: str
    request: str | None = None
    gang: str | None = None
    attempt: str | None = None
    incarnation: int | None = None
    reason: str | None = None
    seconds: float | None = None
    placement: str | None = None
    mode: str | None = None
    lost: str | None = None
    """Why the attempt was lost, also where the request ended for another reason."""
    gpu_seconds: float | None = None
    cold_s: float | None = None
    """Of a success: how much of its wait was its own gang's start; 0 if the gang was warm."""
    phases: Mapping[str, Any] = field(default_factory=dict)
    """Of `ready`: seconds of each phase of the start."""
    batch: str | None = None
    items: int = 0
    """How many items of the batch made the move together, in one statement; 0: the move is the batch's own."""

    def line(self) -> dict[str, Any]:
        """What the log shows."""
        said: dict[str, Any] = {"action": self.move, "state": self.state, "tenant": self.tenant}
        for name in _SHOWN:
            value = getattr(self, name)
            if value is not None:
                said[name] = value
        if self.seconds is not None:
            said["seconds"] = round(self.seconds, 3)
        if self.items:
            said["items"] = self.items
        return said


_SHOWN = ("template", "batch", "request", "gang", "attempt", "incarnation", "placement", "mode", "reason", "lost")
