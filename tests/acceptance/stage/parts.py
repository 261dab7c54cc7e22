"""A handler that tells which replica ran a request, on which processes, and when. Served by its path."""

import ctypes
import os
import time
from typing import Any

import torch
import torch.distributed as dist

from inference import Context, Handler

_builds = 0  # survives a second setup in this process, which must never happen


class Parts(Handler):
    def setup(self, ctx: Context) -> None:
        global _builds
        _builds += 1
        pids = [torch.zeros(1, dtype=torch.int64) for _ in range(ctx.world)]
        dist.all_gather(pids, torch.tensor([os.getpid()]), group=ctx.data_group)
        self.pids = [int(pid) for pid in pids]

    def run(self, ctx: Context, input: Any) -> dict[str, Any]:
        began = time.time()
        total = torch.zeros(1)
        for _ in ctx.steps(range(input.get("steps", 1))):
            time.sleep(input.get("sleep_s", 0))
            if ctx.attempt == 1:
                _stand_still(input.get("hang"))
            total = torch.tensor([float(ctx.gang_rank)])
            dist.all_reduce(total, group=ctx.data_group)
        print(f"rank {ctx.gang_rank} was here", flush=True)
        return {
            "text": input.get("text"),
            "replica": [ctx.replica, ctx.replicas],
            "rank": [ctx.rank, ctx.world, ctx.local_rank, ctx.gang_rank],
            "environment": [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")],
            "ranks_summed": int(total),
            "pids": self.pids,
            "builds": _builds,
            "began": began,
            "ended": time.time(),
        }


def _stand_still(how: str | None) -> None:
    match how:
        case "asleep":
            time.sleep(3600)
        case "deaf":
            ctypes.PyDLL(None).sleep(3600)  # keeps the interpreter lock: no thread of this rank runs
