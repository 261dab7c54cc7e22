"""Answers that are good for some seconds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from orchestrator.web.frame.kept import Kept


@dataclass
class Look:
    """Counts how often somebody really looks."""

    now: float = 0.0
    looks: list[int] = field(default_factory=list)

    async def __call__(self) -> int:
        self.looks.append(1)
        return len(self.looks)


def test_an_answer_is_asked_for_again_when_its_time_is_over_and_for_each_key() -> None:
    look = Look()
    kept = Kept(clock=lambda: look.now)

    async def asked(key: str) -> int:
        return await kept(key, 30.0, look)

    async def story() -> list[int]:
        first = [await asked("a"), await asked("a"), await asked("b")]
        look.now = 30.0
        return [*first, await asked("a")]

    assert asyncio.run(story()) == [1, 1, 2, 3]
