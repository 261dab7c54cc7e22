"""A sharded transformer with random weights, as a handler: for benchmarks on GPUs. Loaded by path, in the ranks.

Each rank denoises tokens of its own with weights sharded over all (FSDP2, bf16), and after each step the ranks take the
mean over the data group, as guidance or sequence parallelism would. It fails on demand: `how`, `on_rank`, `at_step`.
"""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import Field
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import scaled_dot_product_attention

from inference import Context, Handler, Input

FOREVER_S = 3600
CHUNK = 4 << 30


class TransformerInput(Input):
    steps: int = Field(10, ge=1, le=100_000)
    seed: int = 0
    plain: bool = False  # walk the loop without `ctx.steps`
    how: str = "not"
    on_rank: int = -1
    at_step: int = 3


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.first(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.out(seen)
        return x + self.down(nn.functional.gelu(self.up(self.second(x))))


class Model(nn.Module):
    def __init__(self, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.last = nn.RMSNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.last(x)


class Transformer(Handler[TransformerInput]):
    Input = TransformerInput

    def setup(self, ctx: Context) -> None:
        began = time.monotonic()
        args = ctx.args
        self.shape = (1, args["tokens"], args["width"])
        with torch.device("meta"):
            self.model = Model(args["layers"], args["width"], args["width"] // 128).to(torch.bfloat16)
        self.bytes = sum(each.numel() * each.element_size() for each in self.model.parameters())
        for block in self.model.blocks:
            fully_shard(block, mesh=ctx.data_mesh)
        fully_shard(self.model, mesh=ctx.data_mesh)
        self.model.to_empty(device=ctx.device)
        with torch.no_grad():
            for name, each in self.model.named_parameters():
                own = each.to_local()  # type: ignore[attr-defined]
                own.fill_(1.0) if each.ndim == 1 else own.normal_(std=0.3 / args["width"] ** 0.5)
                assert name
        torch.cuda.synchronize()
        self.built_s = time.monotonic() - began

    @torch.no_grad()
    def run(self, ctx: Context, input: TransformerInput) -> dict[str, Any]:
        began_at, began = time.time(), time.perf_counter()
        torch.manual_seed(1000 * input.seed + ctx.rank)
        x = torch.randn(self.shape, device=ctx.device, dtype=torch.bfloat16)
        for step in range(input.steps) if input.plain else ctx.steps(range(input.steps), phase="denoise"):
            if step == 0:
                _note(ctx, "first_step")
            if input.how != "not" and step == input.at_step and input.on_rank in (-1, ctx.rank):
                _note(ctx, "fails")
                if getattr(Ways, input.how)(ctx) == "leave":
                    return {}
            x = 0.9 * x + 0.1 * self.model(x)
            dist.all_reduce(x, group=ctx.data_group)
            x /= ctx.world
            if input.how == "hang_at_item":
                x.sum().item()  # waits for the GPU, as many a scheduler does
        checksum = float(x.float().abs().mean())
        inside_s = time.perf_counter() - began
        return {
            "inside_s": inside_s,
            "began_at": began_at,
            "ended_at": time.time(),
            "checksum": checksum,
            "ranks": _of_all(ctx, self._facts(ctx)),
            "gigabytes": self.bytes / 1e9,
        }

    def _facts(self, ctx: Context) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "local_rank": ctx.local_rank,
            "current_device": torch.cuda.current_device(),
            "uuid": str(torch.cuda.get_device_properties(ctx.device).uuid),
            "group": dist.get_backend(ctx.data_group),
            "control": dist.get_backend(dist.group.WORLD),
            "allocated_mib": torch.cuda.memory_allocated() / 2**20,
            "reserved_mib": torch.cuda.memory_reserved() / 2**20,
            "peak_mib": torch.cuda.max_memory_allocated() / 2**20,
            "built_s": self.built_s,
        }


class Ways:
    """To fail. Each a method: (ctx)."""

    @staticmethod
    def killed(ctx: Context) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def hang(ctx: Context) -> None:
        while True:
            time.sleep(0.1)

    hang_at_item = hang

    @staticmethod
    def out_of_memory(ctx: Context) -> None:
        """Until there is none left."""
        taken = []
        while True:
            taken.append(torch.empty(CHUNK, dtype=torch.uint8, device=ctx.device))

    @staticmethod
    def leave(ctx: Context) -> str:
        return "leave"

    @staticmethod
    def raise_error(ctx: Context) -> None:
        raise ValueError(f"rank {ctx.rank} raises as asked")


def _of_all(ctx: Context, mine: dict[str, Any]) -> list[dict[str, Any]]:
    """Over a data group that may be NCCL: as bytes, without pickle."""
    room = 2048
    said = json.dumps(mine).encode().ljust(room)
    own = torch.frombuffer(bytearray(said), dtype=torch.uint8).to(ctx.device)
    parts = [torch.empty_like(own) for _ in range(ctx.world)]
    dist.all_gather(parts, own, group=ctx.data_group)
    return [json.loads(bytes(part.cpu().numpy())) for part in parts]


def _note(ctx: Context, what: str) -> None:
    """One line in this rank's file."""
    line = {"what": what, "request": ctx.request, "attempt": ctx.attempt, "at": time.time()}
    with (Path(ctx.args["folder"]) / f"rank-{ctx.rank}").open("a") as file:
        file.write(json.dumps(line) + "\n")
