"""The gang of `stepper`, seen from a benchmark: its template, its notes, its ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil

from benchmarks.stand import Stand, until
from benchmarks.wire import Line

NAME = "stepper"
_HANDLER = f"{Path(__file__).with_name('stepper.py')}:Stepper"


class Steps:
    def __init__(self, stand: Stand, folder: Path) -> None:
        self.stand = stand
        self._folder = folder

    @property
    def line(self) -> Line:
        """A new connection: the service may have closed an old one."""
        return self.stand.line()

    def apply(self, **changes: Any) -> None:
        template = {
            "name": NAME,
            "handler": _HANDLER,
            "ranks_per_node": 4,
            "args": {"folder": str(self._folder)},
            "pool": {"min": 1, "max": 1},
            **changes,
        }
        self.line.good("PUT", f"/v1/templates/{NAME}", template)

    def idle_gang(self) -> dict[str, Any]:
        return until(self._idle, "an idle gang", within_s=180)

    def _idle(self) -> dict[str, Any] | None:
        return next((gang for gang in self.stand.gangs(NAME) if gang["state"] == "idle"), None)

    def submit(self, **asked: Any) -> str:
        return str(self.line.good("POST", "/v1/requests", {"template": NAME, "input": asked})["id"])

    def cancel(self, request: str) -> None:
        self.line.good("POST", f"/v1/requests/{request}/cancel")

    def shown(self, request: str) -> dict[str, Any]:
        return dict(self.line.good("GET", f"/v1/requests/{request}"))

    def ended(self, request: str, within_s: float = 180) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            shown = self.shown(request)
            return shown if shown["is_terminal"] else None

        return until(look, f"{request} ends", within_s=within_s)

    def noted(self, request: str, what: str, rank: int = 0, attempt: int | None = None) -> list[dict[str, Any]]:
        """What a rank noted in a request."""
        file = self._folder / f"rank-{rank}"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [
            one
            for one in lines
            if (one["request"], one["what"]) == (request, what) and attempt in (None, one["attempt"])
        ]

    def first_step(self, request: str, within_s: float = 60) -> dict[str, Any]:
        notes = until(lambda: self.noted(request, "first_step"), "the first step", within_s=within_s, every_s=0.005)
        return dict(notes[0])


def resident_mib(gang: dict[str, Any]) -> dict[int, float]:
    """RSS of every rank."""
    return {one["rank"]: psutil.Process(one["pid"]).memory_info().rss / 2**20 for one in gang["ranks"]}


def slope(samples: list[float]) -> float:
    """Of the line that fits them best, per sample. Pure."""
    count = len(samples)
    middle, mean = (count - 1) / 2, sum(samples) / count
    spread = sum((number - middle) ** 2 for number in range(count))
    return sum((number - middle) * (one - mean) for number, one in enumerate(samples)) / spread if spread else 0.0
