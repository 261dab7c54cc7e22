"""The sequence split over the ranks of a gang: who holds which tokens, and how attention sees all of them.

DeepSpeed-Ulysses (Jacobs et al. 2023, arXiv:2309.14509): outside attention a rank holds all heads of its own tokens;
one all-to-all turns that into all tokens of its own heads, attention runs as on one device, and a second all-to-all
turns it back. Traffic per rank falls with the number of ranks, and no attention kernel needs to change.

Knows nothing of the model. A `SequenceParallel` lives for one request: the gang may rebuild its group between two.
"""

from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SequenceParallel:
    """One rank's place in the split. `world == 1` needs no group and makes every method the identity."""

    rank: int = 0
    world: int = 1
    group: dist.ProcessGroup | None = None

    @classmethod
    def over(cls, group: dist.ProcessGroup) -> Self:
        """The split over all ranks of `group`, in group order."""
        return cls(rank=dist.get_rank(group), world=dist.get_world_size(group), group=group)

    def shard(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, width) held by all ranks -> (batch, tokens / world, width), this rank's run of tokens."""
        return tokens.chunk(self.world, dim=1)[self.rank]

    def gather(self, tokens: Tensor) -> Tensor:
        """(batch, tokens / world, width) per rank -> (batch, tokens, width) on every rank."""
        if self.world == 1:
            return tokens
        parts = [torch.empty_like(tokens, memory_format=torch.contiguous_format) for _ in range(self.world)]
        dist.all_gather(parts, tokens.contiguous(), group=self.group)
        return torch.cat(parts, dim=1)

    def to_heads(self, qkv: Tensor) -> Tensor:
        """(batch, tokens / world, 3, heads, dim) -> (batch, tokens, 3, heads / world, dim)."""
        if self.world == 1:
            return qkv
        sent = torch.stack(qkv.chunk(self.world, dim=3))  # one slice of heads for each rank
        return torch.cat(self._exchange(sent).unbind(), dim=1)  # one run of tokens from each rank

    def to_tokens(self, attended: Tensor) -> Tensor:
        """(batch, tokens, heads / world, dim) -> (batch, tokens / world, heads, dim)."""
        if self.world == 1:
            return attended
        sent = torch.stack(attended.chunk(self.world, dim=1))
        return torch.cat(self._exchange(sent).unbind(), dim=2)

    def _exchange(self, sent: Tensor) -> Tensor:
        """Slice r of the first dimension goes to rank r; slice r of the answer came from rank r."""
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self.group)
        return received


ONE_RANK = SequenceParallel()
