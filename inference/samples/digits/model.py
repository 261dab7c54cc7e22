"""The diffusion transformer: from noisy images, a time and a class to the velocity of the flow.

DiT with adaLN-Zero (Peebles & Xie 2023, arXiv:2212.09748) on the pixels themselves: 8x8 images are small enough to
need no autoencoder. Pure computation: the split of the sequence is passed in; sharding parameters is for the handler.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.samples.digits.sequence import ONE_RANK, SequenceParallel

CLASSES = 10
NO_CLASS = CLASSES  # the label of the unconditional half of classifier-free guidance
FREQUENCIES = 64


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What must be known to build the network. `size` and `patch` in pixels."""

    size: int = 8
    patch: int = 2
    width: int = 128
    depth: int = 4
    heads: int = 8
    widening: int = 2  # hidden width of the feed-forward, in widths

    def __post_init__(self) -> None:
        if self.size % self.patch or self.width % self.heads:
            raise ValueError(f"size must divide by patch and width by heads: {self}")

    @property
    def tokens(self) -> int:
        return (self.size // self.patch) ** 2

    def splits_over(self, world: int) -> bool:
        """Whether `world` ranks can share the sequence: each needs the same number of tokens and of heads."""
        return self.tokens % world == 0 and self.heads % world == 0


class DiffusionTransformer(nn.Module):
    """Velocity of a rectified flow, d image / d time, with time 0 at the picture and time 1 at the noise."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        pixels = shape.patch**2
        self.embed = nn.Linear(pixels, shape.width)
        self.positions = nn.Parameter(torch.randn(shape.tokens, shape.width) * 0.02)
        self.classes = nn.Embedding(CLASSES + 1, shape.width)
        self.times = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, shape.width), nn.SiLU(), nn.Linear(shape.width, shape.width)
        )
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, elementwise_affine=False)
        self.modulation = nn.Linear(shape.width, 2 * shape.width)
        self.project = nn.Linear(shape.width, pixels)

    def start_as_identity(self) -> None:
        """adaLN-Zero: every block begins as the identity and the whole as zero. For training from scratch."""
        for layer in [*(block.modulation for block in self.blocks), self.modulation, self.project]:
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, time: Tensor, label: Tensor, sequence: SequenceParallel = ONE_RANK) -> Tensor:
        """This rank's (batch, tokens / world, pixels of a patch), time and label (batch,) -> same shape as tokens."""
        condition = functional.silu(self.times(waves(time)) + self.classes(label)).unsqueeze(1)
        hidden = self.embed(tokens) + sequence.shard(self.positions[None])
        for block in self.blocks:
            hidden = block(hidden, condition, sequence)
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        velocity: Tensor = self.project(modulate(self.norm(hidden), shift, scale))
        return velocity


class Block(nn.Module):
    """Attention over the whole sequence, then a feed-forward, both shifted, scaled and gated by the condition."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm = nn.LayerNorm(shape.width, elementwise_affine=False)
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.feed = nn.Sequential(
            nn.Linear(shape.width, shape.widening * shape.width),
            nn.GELU(approximate="tanh"),
            nn.Linear(shape.widening * shape.width, shape.width),
        )
        self.modulation = nn.Linear(shape.width, 6 * shape.width)

    def forward(self, hidden: Tensor, condition: Tensor, sequence: SequenceParallel) -> Tensor:
        """(batch, tokens / world, width) with condition (batch, 1, width) -> same shape as hidden."""
        modulation: Tensor = self.modulation(condition)
        shift, scale, gate, feed_shift, feed_scale, feed_gate = modulation.chunk(6, dim=-1)
        hidden = hidden + gate * self.attend(modulate(self.norm(hidden), shift, scale), sequence)
        fed: Tensor = self.feed(modulate(self.norm(hidden), feed_shift, feed_scale))
        return hidden + feed_gate * fed

    def attend(self, hidden: Tensor, sequence: SequenceParallel) -> Tensor:
        """Full attention, each rank for its own heads between the two exchanges."""
        qkv: Tensor = self.qkv(hidden)
        qkv = qkv.view(*qkv.shape[:2], 3, self.heads, -1)
        q, k, v = sequence.to_heads(qkv).transpose(1, 3).unbind(2)  # each (batch, heads / world, tokens, dim)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        mixed: Tensor = self.out(sequence.to_tokens(attended).flatten(2))
        return mixed


def modulate(hidden: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return hidden * (1 + scale) + shift


def waves(time: Tensor) -> Tensor:
    """(batch,) in 0..1 -> (batch, 2 * FREQUENCIES) sines and cosines, wavelengths from far below 1 to far above."""
    octaves = torch.arange(FREQUENCIES, device=time.device, dtype=torch.float32) / FREQUENCIES
    angles = 1000 * time.float()[:, None] * torch.exp(-math.log(10_000) * octaves)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def to_tokens(images: Tensor, patch: int) -> Tensor:
    """(batch, size, size) -> (batch, tokens, patch * patch), row by row."""
    rows = images.unfold(1, patch, patch).unfold(2, patch, patch)
    return rows.flatten(3).flatten(1, 2)


def to_images(tokens: Tensor, patch: int) -> Tensor:
    """(batch, tokens, patch * patch) -> (batch, size, size): undoes `to_tokens`."""
    side = math.isqrt(tokens.shape[1])
    grid = tokens.reshape(-1, side, side, patch, patch)
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)
