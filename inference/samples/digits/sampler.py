"""The denoising loop as a generator, one yield per step, so that the caller decides what happens between the steps.

Rectified flow (Liu et al. 2022, arXiv:2209.03003) walked by Euler's method, with classifier-free guidance (Ho &
Salimans 2022, arXiv:2207.12598). Knows neither ranks nor requests: the velocity is passed in.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn

from inference.samples.digits.model import NO_CLASS, to_tokens
from inference.samples.digits.sequence import ONE_RANK, SequenceParallel

Velocity: TypeAlias = Callable[[Tensor, float], Tensor]


def noise(seed: int, count: int, size: int) -> Tensor:
    """(count, size, size) on the CPU, the same on every machine; sample i does not depend on `count`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(size, size, generator=generator) for _ in range(count)])


def denoise(velocity: Velocity, start: Tensor, steps: int, done: int = 0) -> Iterator[Tensor]:
    """Walks from noise (time 1) to picture (time 0) in `steps` equal steps; yields the state after each.

    `done`: so many steps lie behind `start` already.
    """
    state = start
    times: list[float] = torch.linspace(1, 0, steps + 1).tolist()
    for now, then in pairwise(times[done:]):
        state = state + (then - now) * velocity(state, now)
        yield state


def guided(model: nn.Module, digit: int, guidance: float, sequence: SequenceParallel = ONE_RANK) -> Velocity:
    """The velocity towards `digit`; guidance 1 is the plain conditional one, more is crisper and less varied."""

    @torch.no_grad()
    def velocity(tokens: Tensor, time: float) -> Tensor:
        batch = 2 * len(tokens)
        label = torch.full((batch,), NO_CLASS, device=tokens.device)
        label[: len(tokens)] = digit
        times = torch.full((batch,), time, device=tokens.device)
        asked, unasked = model(torch.cat([tokens, tokens]), times, label, sequence).chunk(2)
        return torch.lerp(unasked, asked, guidance)

    return velocity


def start_tokens(seed: int, count: int, size: int, patch: int) -> Tensor:
    """The noise of one request as the model wants it: (count, tokens, patch * patch)."""
    return to_tokens(noise(seed, count, size), patch)
