"""Whether a new gang is what the template asked for, looked at before its handler is set up. All ranks judge alike.

What every rank sees of itself goes to all ranks; then two all-reduces on the data group: a tiny one for its latency, a
larger one for its bandwidth. Knows no service: who reports a problem is the start's affair.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import torch
import torch.distributed as dist

from inference.control import Control
from inference.environment import Environment
from inference.groups import DataGroups
from inference.work import encode

TIMES = 5
SMALL = 1
LARGE_MB = {"cpu": 2, "cuda": 64}
_MB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What one rank says of itself. `place` is the one thing that no other rank may compute on."""

    rank: int
    node: str
    agent: int
    local_rank: int
    device: str
    place: str
    free_mb: int
    problem: str | None = None

    @classmethod
    def of(cls, environment: Environment, device: torch.device, problem: str | None) -> Self:
        return cls(
            rank=environment.rank,
            node=environment.node,
            agent=environment.agent,
            local_rank=environment.local_rank,
            device=str(device),
            place=_place(device),
            free_mb=_free_bytes(device) // _MB,
            problem=problem,
        )


@dataclass(frozen=True, kw_only=True)
class Link:
    """What the data group of the gang can do, as one rank measured it."""

    right: bool
    latency_ms: float
    mb_per_s: float


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the template asks for; None: nothing of that kind."""

    nodes: int | None = None
    ranks_per_node: int | None = None
    min_free_mb: int | None = None
    min_mb_per_s: float | None = None


class PreflightFailed(Exception):
    """The gang is not fit for work; the message says why, `rank` and `node` where."""

    def __init__(self, message: str, rank: int, node: str) -> None:
        super().__init__(message)
        self.rank = rank
        self.node = node


def look(exchange: Callable[[bytes], list[bytes]], mine: Fact, wanted: Wanted) -> list[Fact]:
    """Every rank's facts, by something that tells all of them. Raises PreflightFailed, on all ranks the same."""
    facts = [Fact(**json.loads(told)) for told in exchange(encode(asdict(mine)))]
    if found := odd_one(facts, wanted):
        fact, why = found
        raise PreflightFailed(f"rank {fact.rank} on {fact.node}: {why}", fact.rank, fact.node)
    return facts


def odd_one(facts: Sequence[Fact], wanted: Wanted) -> tuple[Fact, str] | None:
    """The first rank that is not as it should be, and why. Pure."""
    agents = Counter(fact.agent for fact in facts)
    places = Counter((fact.node, fact.place) for fact in facts if fact.place)
    kinds = Counter(_kind(fact.device) for fact in facts)
    for fact in facts:
        if fact.problem:
            return fact, fact.problem
        if _kind(fact.device) != kinds.most_common(1)[0][0]:
            return fact, f"it has {fact.device}, most others have {kinds.most_common(1)[0][0]}"
        if fact.place and places[fact.node, fact.place] > 1:
            others = [one.rank for one in facts if (one.node, one.place) == (fact.node, fact.place)]
            return fact, f"ranks {', '.join(map(str, others))} share the device {fact.place}"
        if wanted.nodes is not None and len(agents) != wanted.nodes:
            return fact, f"the gang has {len(agents)} nodes, the template says {wanted.nodes}"
        if wanted.ranks_per_node is not None and agents[fact.agent] != wanted.ranks_per_node:
            return fact, f"{agents[fact.agent]} ranks on its node, the template says {wanted.ranks_per_node}"
        if wanted.min_free_mb is not None and fact.free_mb < wanted.min_free_mb:
            return fact, f"{fact.free_mb} MB free on {fact.device}, the template wants {wanted.min_free_mb}"
    return None


def measure(control: Control, groups: DataGroups, device: torch.device, facts: Sequence[Fact], wanted: Wanted) -> Link:
    """The data group carries what it should. A collective. Raises PreflightFailed, on all ranks the same."""
    where = device if groups.backend == "nccl" else torch.device("cpu")
    small = torch.ones(SMALL, device=where)
    large = torch.full((LARGE_MB[where.type] * _MB // 4,), float(control.rank + 1), device=where)
    _seconds(groups, small)  # connects
    latency_s = median(_seconds(groups, small) for _ in range(TIMES))
    took_s = _seconds(groups, large)
    total = control.world * (control.world + 1) / 2
    mine = Link(
        right=bool((large == total).all()),
        latency_ms=round(1000 * latency_s, 3),
        mb_per_s=round(large.numel() * 4 / 1e6 / took_s, 1),
    )
    links = [Link(**json.loads(told)) for told in control.exchange(encode(asdict(mine)))]
    for fact, link in zip(facts, links, strict=True):
        if not link.right:
            raise PreflightFailed(
                f"rank {fact.rank} on {fact.node}: an all-reduce gave it wrong sums", fact.rank, fact.node
            )
    if wanted.min_mb_per_s is not None and links[0].mb_per_s < wanted.min_mb_per_s:
        why = f"an all-reduce makes {links[0].mb_per_s:g} MB/s, the template wants {wanted.min_mb_per_s:g}"
        raise PreflightFailed(why, facts[0].rank, facts[0].node)
    return links[0]


def figures(link: Link, facts: Sequence[Fact]) -> dict[str, Any]:
    """As people are shown them."""
    least = min(fact.free_mb for fact in facts)
    return {"latency_ms": link.latency_ms, "mb_per_s": link.mb_per_s, "free_mb": least}


def _seconds(groups: DataGroups, tensor: torch.Tensor) -> float:
    begun = time.perf_counter()
    dist.all_reduce(tensor, group=groups.group)
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)
    return max(1e-9, time.perf_counter() - begun)


def _kind(device: str) -> str:
    return device.partition(":")[0]


def _place(device: torch.device) -> str:
    """Of a GPU what no other one is called. Processors are shared by design."""
    if device.type != "cuda":
        return ""
    return str(getattr(torch.cuda.get_device_properties(device), "uuid", device))


def _free_bytes(device: torch.device) -> int:
    """Of the host's memory where there is no GPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    available = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return available[0] << 10 if available else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
