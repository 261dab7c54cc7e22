"""Random state of the process: as in a fresh one, or as it was."""

import random
from typing import Any, Self

import numpy as np
import torch

CUDA_SEED = 67280421310721  # what every process's CUDA generators begin with; all others begin with entropy


class Chance:
    def __init__(self, states: tuple[Any, ...]) -> None:
        self._states = states

    @classmethod
    def now(cls) -> Self:
        state: Any = np.random.get_state()
        kind, keys, *rest = state
        cuda = [state.cpu() for state in torch.cuda.get_rng_state_all()] if _has_cuda() else []
        return cls((random.getstate(), (kind, keys.tobytes(), *rest), torch.get_rng_state(), cuda))

    def restore(self) -> None:
        python, (kind, keys, *rest), torch_cpu, cuda = self._states
        random.setstate(python)
        np.random.set_state((kind, np.frombuffer(keys, np.uint32), *rest))
        torch.set_rng_state(torch_cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Chance):
            return NotImplemented
        *numbers, torch_cpu, cuda = self._states
        *other_numbers, other_cpu, other_cuda = other._states
        if numbers != other_numbers or not torch.equal(torch_cpu, other_cpu) or len(cuda) != len(other_cuda):
            return False
        return all(map(torch.equal, cuda, other_cuda))

    __hash__ = None  # type: ignore[assignment]


def begin_afresh() -> None:
    """What a new process has: entropy, and PyTorch's fixed seed on CUDA."""
    random.seed()
    np.random.seed()
    torch.default_generator.seed()
    if _has_cuda():
        torch.cuda.manual_seed_all(CUDA_SEED)


def _has_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
