"""A handler whose start goes wrong as its arguments say. Loaded by path, as a user's file is."""

import os
import time
from typing import Any

import torch
import torch.distributed as dist

from inference import Context, Handler


class SlowStart(Handler):  # type: ignore[type-arg]
    def setup(self, ctx: Context) -> None:
        self.runs = 0
        if ctx.args.get("hang_on_rank") == ctx.rank:
            time.sleep(3600)
        dist.all_reduce(torch.ones(1), group=ctx.data_group)

    def run(self, ctx: Context, input: dict[str, Any]) -> dict[str, Any]:
        self.runs += 1
        for _ in ctx.steps(range(3)):
            dist.all_reduce(torch.ones(1), group=ctx.data_group)
        ctx.checkpoint({"x": torch.ones(1)}, 3)
        if ctx.rank == 0:
            ctx.output("written.txt").write_text("x")
        if input.get("fail_on_rank") == ctx.rank:
            raise ValueError(f"rank {ctx.rank} cannot warm up")
        return {"runs": self.runs, "pid": os.getpid()}
