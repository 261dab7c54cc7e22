"""A backend that does what a test says: the port, without anything behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from orchestrator.backends.base import Launched, LaunchSpec, Observed, Phase, Story
from orchestrator.errors import BackendError


@dataclass
class ScriptedBackend:
    """Holds what was launched until it is stopped. `refusal` is raised instead of launching or stopping."""

    name: str = "test"
    holds: dict[str, Observed] = field(default_factory=dict)
    launches: list[LaunchSpec] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    told: list[Story] = field(default_factory=list)
    refusal: BackendError | None = None
    lingers: bool = False
    """What is stopped stays visible, as while its processes end."""
    meanwhile: Callable[[], object] = lambda: None
    """Happens while a launch is under way."""

    def launch(self, spec: LaunchSpec) -> Launched:
        self.launches.append(spec)
        if self.refusal is not None:
            raise self.refusal
        adopted = spec.name in self.holds
        self.holds[spec.name] = Observed(gang=spec.gang, name=spec.name, phase=Phase.RUNNING)
        self.meanwhile()
        return Launched(ref=spec.name, adopted=adopted)

    def rehearse(self, spec: LaunchSpec) -> None:
        pass

    def observe(self) -> tuple[Observed, ...]:
        return tuple(self.holds[name] for name in sorted(self.holds))

    def look(self, name: str) -> Observed | None:
        return self.holds.get(name)

    def stop(self, name: str, grace: timedelta) -> None:
        self.stops.append(name)
        if self.refusal is not None:
            raise self.refusal
        if not self.lingers:
            self.holds.pop(name, None)

    def logs(self, name: str, *, node: int = 0, tail_bytes: int = 0) -> str:
        return ""

    def tell(self, story: Story) -> None:
        self.told.append(story)

    def close(self) -> None:
        pass

    def shows(self, gang: str, name: str, phase: Phase = Phase.RUNNING, detail: str | None = None) -> None:
        self.holds[name] = Observed(gang=gang, name=name, phase=phase, detail=detail)
