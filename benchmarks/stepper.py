"""A handler that walks steps and notes when: for benchmarks that cancel, kill and resume. Loaded by path, in the ranks.

Its state is a running hash of all steps so far, so that one step left out or taken twice changes the output.
"""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import Field

from inference import Context, Handler, Input

STATE_FLOATS = 1 << 18  # 1 MiB


class StepperInput(Input):
    steps: int = Field(20, ge=1, le=100_000)
    step_s: float = Field(0.02, ge=0, le=60)
    keep_every: int = Field(0, ge=0)  # steps between two checkpoints; 0: none
    seed: int = 0


class Stepper(Handler[StepperInput]):
    Input = StepperInput

    def run(self, ctx: Context, input: StepperInput) -> dict[str, Any]:
        state, done = _begin(ctx, input)
        for step in ctx.steps(range(done, input.steps), total=input.steps, start=done):
            if step == done:
                _note(ctx, "first_step", step)
            time.sleep(input.step_s)
            state = torch.roll(state, 1) * 0.75 + (step + 1) * 1e-3
            dist.all_reduce(state, group=ctx.data_group)
            state /= ctx.world
            if input.keep_every and (step + 1) % input.keep_every == 0 and step + 1 < input.steps:
                ctx.checkpoint({"state": state}, step + 1)
                _note(ctx, "kept", step + 1)
        if ctx.rank == 0 and input.keep_every:
            ctx.output("state.bin").write_bytes(state.numpy().tobytes())
        return {"sha256": hashlib.sha256(state.numpy().tobytes()).hexdigest(), "resumed_at": done}


def _begin(ctx: Context, input: StepperInput) -> tuple[torch.Tensor, int]:
    if input.keep_every and (found := ctx.restore()):
        return found[0]["state"], found[1]
    torch.manual_seed(input.seed + ctx.rank)
    return torch.rand(STATE_FLOATS), 0


def _note(ctx: Context, what: str, step: int) -> None:
    """One line in this rank's file."""
    line = {"what": what, "request": ctx.request, "attempt": ctx.attempt, "step": step, "at": time.time()}
    with (Path(ctx.args["folder"]) / f"rank-{ctx.rank}").open("a") as file:
        file.write(json.dumps(line | {"pid": os.getpid()}) + "\n")
