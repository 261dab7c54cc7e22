"""Where every rank is when a gang stands still, and which of them holds the others up. Pure but for reading frames."""

import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

STACK_BYTES = 6000  # the tail: where it stands is at the end
ALL_BYTES = 256 << 10  # of one report
_TORCH = "/torch/"
_COLLECTIVES = ("torch/distributed/", "torch/_ops.py", "inference/control.py", "inference/commons.py")
_INNERMOST = 4  # frames in which a wait for other ranks shows


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One rank. `deaf`: no Python thread of it could speak; `waits`: it is inside a collective."""

    rank: int
    node: str
    text: str = ""
    step: int = 0
    phase: str = ""
    place: str = ""
    waits: bool = False
    deaf: bool = False

    @classmethod
    def of_main_thread(cls, *, rank: int, node: str, phase: str, step: int, gpu_busy: bool = False) -> Self:
        """`gpu_busy`: a collective that others do not join stands there, whatever Python does meanwhile."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        frames = traceback.extract_stack(frame) if frame else traceback.StackSummary()
        own = [entry for entry in frames if _TORCH not in entry.filename]
        return cls(
            rank=rank,
            node=node,
            text="".join(frames.format())[-STACK_BYTES:],
            step=step,
            phase=phase,
            place=f"{own[-1].filename}:{own[-1].lineno}" if own else "",
            waits=gpu_busy or _waits([entry.filename for entry in frames]),
        )

    @classmethod
    def read(cls, note: dict[str, Any]) -> Self:
        return cls(**note)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def waits_for_others() -> bool:
    """Whether the main thread is inside a collective: then another rank is the one that is late."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    outwards = [entry.f_code.co_filename for entry, _ in traceback.walk_stack(frame)] if frame else []
    return _waits(outwards[::-1])


def _waits(files: list[str]) -> bool:
    return any(sign in file for file in files[-_INNERMOST:] for sign in _COLLECTIVES)


def complete(given: dict[int, Stack], ranks: Iterable[int]) -> list[Stack]:
    """One for every rank. Who could not speak stands where the last of the others stands: they vote at every step."""
    last = min((stack for stack in given.values() if not stack.deaf), key=lambda stack: stack.step, default=None)
    every = [given.get(rank) or Stack(rank=rank, node="", deaf=True) for rank in ranks]
    if last is None:
        return every
    return [replace(one, step=last.step, phase=last.phase) if one.deaf else one for one in every]


def culprit(stacks: list[Stack]) -> Stack:
    """Whom the others wait for: who cannot speak, then who is in no collective, then who is in another one.

    Among equals the one with the fewest steps, then the lowest rank.
    """
    places = Counter(stack.place for stack in stacks if not stack.deaf)

    def order(stack: Stack) -> tuple[bool, bool, int, int, int]:
        return (not stack.deaf, stack.waits, places[stack.place], stack.step, stack.rank)

    return min(stacks, key=order)


def shown(stacks: list[Stack]) -> list[dict[str, Any]]:
    """As a rank-error carries them, bounded for gangs of any size."""
    room = max(400, ALL_BYTES // max(1, len(stacks)))
    return [{"rank": one.rank, "node": one.node, "stack": one.text[-room:]} for one in stacks]
