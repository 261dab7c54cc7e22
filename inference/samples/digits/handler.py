"""The digits handler: sets the model up once per incarnation, then draws one request after another on all ranks.

Every rank runs every line: FSDP2 (`fully_shard`) gathers each block's parameters as the block comes up, and attention
exchanges heads for tokens (sequence.py). Only the files are rank 0's alone. Works on one rank and on many, on gloo
and on NCCL; the same request gives the same picture on each, within float tolerance.

Gang-level arguments (`ctx.args`): `reshard: request` (default) gathers each block's parameters once per request and
lets them go at its end; `reshard: step` gathers them anew at every step, for models that do not fit otherwise. For
benchmarks `random_weights: true` builds a seeded random model instead of the trained one, of `size`, `patch`, `width`,
`depth`, `heads`, `widening`. `checkpoint_every: k` keeps the way so far every k steps; a later attempt goes on there.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from inference import Context, Handler, Input
from inference.samples.digits import picture, weights
from inference.samples.digits.model import DiffusionTransformer, Shape, to_images
from inference.samples.digits.sampler import denoise, guided, start_tokens
from inference.samples.digits.sequence import SequenceParallel

LEVELS = 16  # the data's own gray levels above zero; what the digest sees


class DigitsInput(Input):
    """What to draw. `count` samples of one digit from one seed; sample i is the same whatever `count` is."""

    digit: int = Field(ge=0, le=9)
    seed: int = Field(0, ge=0, lt=2**63)
    steps: int = Field(8, ge=1, le=200)
    count: int = Field(4, ge=1, le=16)
    guidance: float = Field(2.0, ge=1, le=10, description="1 is none; more is crisper and less varied")


class Digits(Handler[DigitsInput]):
    Input = DigitsInput

    def setup(self, ctx: Context) -> None:
        self.place(ctx)
        shape = self.model.shape
        if not shape.splits_over(ctx.world):
            raise ValueError(f"{ctx.world} ranks cannot share {shape.tokens} tokens and {shape.heads} heads evenly")

    def place(self, ctx: Context) -> None:
        """Builds the model and shards it over the gang; no collective, each rank keeps its part of its own copy."""
        every_step = ctx.args.get("reshard", "request") == "step"
        self.model = sharded(chosen_model(ctx.args), ctx.data_mesh, ctx.device, every_step=every_step)
        self.intact = True

    def run(self, ctx: Context, input: DigitsInput) -> dict[str, Any]:
        if not self.intact:
            self.place(ctx)
        try:
            trajectory = self.draw(ctx, input)
        finally:
            release(self.model)
        final = trajectory[-1].clamp(-1, 1)
        ctx.phase("write")
        if ctx.rank == 0:
            picture.write_png(ctx.output("digit.png"), final)
            picture.write_gif(ctx.output("digit.gif"), trajectory)
        return {"digit": input.digit, "seed": input.seed, "steps": input.steps, **described(final)}

    def draw(self, ctx: Context, input: DigitsInput) -> list[Tensor]:
        """The states from noise to picture, each (count, size, size) on the CPU, the same on every rank."""
        shape = self.model.shape
        sequence = SequenceParallel.over(ctx.data_group)
        start = start_tokens(input.seed, input.count, shape.size, shape.patch).to(ctx.device)
        velocity = guided(self.model, input.digit, input.guidance, sequence)
        states = self.restored(ctx) or [sequence.shard(start)]
        done = len(states) - 1
        walk = denoise(velocity, states[-1], input.steps, done)
        for state in ctx.steps(self.watched(walk), phase="denoise", total=input.steps, start=done):
            states.append(state)
            self.keep(ctx, states, input.steps)
        whole = sequence.gather(torch.cat(states)).cpu()
        return [to_images(tokens, shape.patch) for tokens in whole.view(len(states), input.count, *whole.shape[1:])]

    def restored(self, ctx: Context) -> list[Tensor]:
        """The states so far, on this rank's tokens; none if this is the first attempt or nothing was kept."""
        found = ctx.restore() if ctx.args.get("checkpoint_every") else None
        return [state.to(ctx.device) for state in found[0]["states"]] if found else []

    def keep(self, ctx: Context, states: list[Tensor], steps: int) -> None:
        every, done = int(ctx.args.get("checkpoint_every") or 0), len(states) - 1
        if every and done % every == 0 and done < steps:
            ctx.checkpoint({"states": torch.stack(states).cpu()}, done)

    def watched(self, walk: Iterator[Tensor]) -> Iterator[Tensor]:
        """The same walk. An error inside a step leaves some blocks gathered on some ranks: no longer intact."""
        self.intact = False
        for state in walk:
            self.intact = True  # a cancel strikes here, between two steps, and does no harm
            yield state
            self.intact = False
        self.intact = True


def chosen_model(args: dict[str, Any]) -> DiffusionTransformer:
    sizes = {name: int(args[name]) for name in Shape.__dataclass_fields__ if name in args}
    if args.get("random_weights"):
        return weights.random(Shape(**sizes))
    if sizes:
        raise ValueError(f"the trained model's shape is fixed: give random_weights too, or leave out {sorted(sizes)}")
    return weights.load()


def sharded(
    model: DiffusionTransformer, mesh: DeviceMesh, device: torch.device, *, every_step: bool
) -> DiffusionTransformer:
    """Each block is one unit of gathering, what remains is another (FSDP2: pytorch.org/docs, `fully_shard`)."""
    for module in [*model.blocks, model]:
        fully_shard(module, mesh=mesh, reshard_after_forward=every_step)
    return model.to(device)


def release(model: DiffusionTransformer) -> None:
    """Each rank keeps only its own part again; no collective."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def described(final: Tensor) -> dict[str, Any]:
    """Figures to tell pictures apart: the mean tells within tolerance, the digest (of 17 gray levels) exactly."""
    levels = ((final + 1) * LEVELS / 2).round().to(torch.uint8)
    digest = hashlib.sha256(levels.contiguous().numpy().tobytes()).hexdigest()
    return {"mean": round(final.mean().item(), 6), "digest": digest, "count": len(final)}
