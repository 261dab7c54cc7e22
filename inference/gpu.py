"""What the GPU of a rank is at. Kernels are only asked for by the process: it runs ahead of them, and may outlive them.

A collective that another rank never joins stands on the GPU, not in Python. Every wait for the GPU that may be such a
one is bounded here, in a thread of its own: no call of CUDA can be given up.
"""

import threading
from collections.abc import Callable
from typing import Any

import torch

LOOK_S = 0.5  # for an answer of the driver


class Gpu:
    """Of one rank. Where that computes on the processor, nothing is ever outstanding."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._there = device.type == "cuda"
        self._marks: list[Any] = []

    def keep_pace(self) -> None:
        """At a step, before the vote: the process runs one vote ahead of the GPU, no more.

        Without it a loop asks for all its steps within milliseconds: progress would lie, and a cancel would wait for
        the whole request.
        """
        if not self._there:
            return
        mark = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        mark.record()
        self._marks.append(mark)
        if len(self._marks) > 1:
            self._marks.pop(0).synchronize()

    def forget(self) -> None:
        """The marks of an attempt that is over."""
        self._marks.clear()

    def is_busy(self) -> bool:
        """Whether something is outstanding on the stream that handlers use. For any thread, and only in trouble:
        while a graph is captured, asking would spoil it."""
        if not self._there:
            return False
        answers: list[bool] = []
        self._ask(lambda: answers.append(torch.cuda.default_stream(self._device).query()), LOOK_S)
        return answers != [True]

    def is_done_within(self, bound_s: float) -> bool:
        """Waits for all that was asked for. False: it stands still, and so would every further call that needs it."""
        return not self._there or self._ask(lambda: torch.cuda.synchronize(self._device), bound_s)

    def _ask(self, question: Callable[[], None], bound_s: float) -> bool:
        """Whether it came back in time. An error is an answer too: whoever calls CUDA next is told."""
        answered = threading.Event()

        def ask() -> None:
            try:
                question()
            except RuntimeError:
                pass
            finally:
                answered.set()

        threading.Thread(target=ask, name="muster-gpu", daemon=True).start()
        return answered.wait(bound_s)
