"""The smallest gang: no model, one all-reduce per step, the input comes back. For smoke tests and measurements.

With the template's argument `hooks: true` it also fails in every way that a test wants; else hooks are refused.
"""

import os
import sys
import time
from typing import Any

import pydantic
import torch
import torch.distributed as dist

from inference import Context, Handler, Input

_builds = 0  # survives a second setup in this process, which must never happen


class Hooks(Input):
    """What goes wrong, for tests. `None`: nothing of that kind."""

    raise_on_rank: int | None = None
    exit_on_rank: int | None = None
    hang_on_rank: int | None = None  # asleep in C, the interpreter lock released
    at_step: int = 0  # when
    write: str | None = None  # the content of the output `echo.txt`
    promise: bool = False  # asks for an output and never writes it
    print: str | None = None  # on every rank, with its rank behind


class Echo(Handler):
    class Input(Input):
        text: str = "hello"
        sleep_s: float = pydantic.Field(default=0, ge=0, le=3600)  # spread over the steps
        steps: int = pydantic.Field(default=1, ge=1, le=100_000)
        hooks: Hooks | None = None

    def setup(self, ctx: Context) -> None:
        global _builds
        _builds += 1
        if ctx.args.get("hooks") and ctx.args.get("raise_in_setup_on_rank") == ctx.rank:
            raise RuntimeError("setup fails as asked")
        mine = torch.tensor([os.getpid()], device=ctx.device)
        pids = [torch.zeros_like(mine) for _ in range(ctx.world)]
        dist.all_gather(pids, mine, group=ctx.data_group)
        self.pids = [int(pid) for pid in pids]

    def run(self, ctx: Context, input: Any) -> dict[str, Any]:
        hooks = input.hooks or Hooks()
        if input.hooks and not ctx.args.get("hooks"):
            raise ValueError("hooks need the template's argument hooks: true")
        _speak(ctx, hooks)
        total = torch.zeros(1, device=ctx.device)
        for step in ctx.steps(range(input.steps), phase="echo"):
            if step == hooks.at_step:
                _go_wrong(ctx, hooks)
            if input.sleep_s:
                time.sleep(input.sleep_s / input.steps)
            total = torch.ones(1, device=ctx.device)
            dist.all_reduce(total, group=ctx.data_group)
        return {"text": input.text, "sum": int(total), "pids": self.pids, "builds": _builds}


def _speak(ctx: Context, hooks: Hooks) -> None:
    if hooks.print is not None:
        sys.stdout.write(f"{hooks.print} {ctx.rank}\n")
    if hooks.write is not None:
        ctx.output("echo.txt").write_text(hooks.write)
    if hooks.promise:
        ctx.output("never.txt")


def _go_wrong(ctx: Context, hooks: Hooks) -> None:
    if ctx.rank == hooks.raise_on_rank:
        raise ValueError(f"rank {ctx.rank} raises as asked")
    if ctx.rank == hooks.exit_on_rank:
        os._exit(1)
    if ctx.rank == hooks.hang_on_rank:
        time.sleep(3600)
