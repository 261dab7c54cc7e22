"""Which part of the gang a rank belongs to, and who it is there. A gang has one part, or several independent ones.

The ranks of a replica run one request together and share no process group with the others. Arithmetic on torchrun's
numbers; knows no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Replica:
    """`rank` and `world` count within it, `first` is the rank in the gang of its rank 0."""

    number: int
    count: int
    first: int
    rank: int
    world: int
    local_rank: int
    """Among its own ranks on this node, of which there are `local_world`."""
    local_world: int
    local_first: int
    """The first of those among all ranks of the node."""
    on_node: int
    """Replicas that have ranks on this node."""

    @classmethod
    def of(cls, *, rank: int, world: int, local_rank: int, local_world: int, count: int) -> Self:
        """Whole nodes, or a part of one: templates have no others. Raises ValueError."""
        size, odd = divmod(world, count)
        if odd or (size % local_world and local_world % size):
            raise ValueError(f"{count} replicas cannot share {world} ranks, {local_world} on a node")
        first = rank - rank % size
        begin = max(first, rank - local_rank)
        return cls(
            number=rank // size,
            count=count,
            first=first,
            rank=rank - first,
            world=size,
            local_rank=rank - begin,
            local_world=min(size, local_world),
            local_first=begin - (rank - local_rank),
            on_node=max(1, local_world // size),
        )

    @property
    def ranks(self) -> range:
        """As the gang counts them."""
        return range(self.first, self.first + self.world)

    def variables(self, given: Mapping[str, str]) -> dict[str, str]:
        """What the environment must say for code that looks there: torchrun's numbers, and only this part's GPUs."""
        if self.count == 1:
            return {}
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_world),
            "GROUP_RANK": str(self.rank // self.local_world),
            "GROUP_WORLD_SIZE": str(self.world // self.local_world),
            "ROLE_RANK": str(self.rank),
            "ROLE_WORLD_SIZE": str(self.world),
            "CUDA_VISIBLE_DEVICES": ",".join(self._devices(given.get("CUDA_VISIBLE_DEVICES"))),
        }

    def _devices(self, visible: str | None) -> list[str]:
        end = self.local_first + self.local_world
        every = [str(number) for number in range(end)] if visible is None else visible.split(",")
        return every[self.local_first : end]
