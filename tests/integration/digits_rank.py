"""One rank of a gang without the service: sets the digits handler up with a bare context and draws what is listed.

    torchrun ... digits_rank.py OUT_FOLDER '[{"digit": 3}, {"digit": 3, "fresh_group": true}, ...]' '{gang arguments}'

An item with `fresh_group` rebuilds the data group first, as the runtime does after an error; one with `break_block`
fails in the middle of the network, on all ranks. Rank 0 leaves the results in OUT_FOLDER/results.json, and
each item's outputs and exact values (final.safetensors) in OUT_FOLDER/<place>/.
"""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.device_mesh import DeviceMesh

from inference.samples.digits.handler import Digits, DigitsInput


class BareContext:
    """Just what a handler may use."""

    def __init__(self, args, out):
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.local_rank = int(os.environ["LOCAL_RANK"])
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(kind, self.local_rank) if kind == "cuda" else torch.device(kind)
        self.args, self.out, self.steps_taken, self.phases = args, out, 0, []
        self.data_group = self.new_group()
        self.data_mesh = DeviceMesh.from_group(self.new_group(), self.device.type)

    def new_group(self):
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        return dist.new_group(backend=backend, timeout=timedelta(seconds=60))

    def steps(self, iterable, phase, total, start=0):
        for self.steps_taken, item in enumerate(iterable, start=start + 1):
            yield item
        assert self.steps_taken == total

    def phase(self, name):
        self.phases.append(name)

    def output(self, name):
        assert self.rank == 0
        self.out.mkdir(parents=True, exist_ok=True)
        return self.out / name


class Watched(Digits):
    """Keeps the exact values, which the result only summarises."""

    def draw(self, ctx, input):
        self.states = super().draw(ctx, input)
        return self.states


def main(out, items, args):
    dist.init_process_group("gloo")
    ctx = BareContext(args, out)
    if ctx.device.type == "cuda":
        torch.cuda.set_device(ctx.device)
    handler = Watched()
    handler.setup(ctx)
    results = [answer(handler, ctx, out / str(place), item) for place, item in enumerate(items)]
    if ctx.rank == 0:
        (out / "results.json").write_text(json.dumps(results))
    dist.destroy_process_group()


def answer(handler, ctx, out, item):
    if item.pop("fresh_group", False):
        ctx.data_group = ctx.new_group()
    if (block := item.pop("break_block", None)) is not None:
        handler.model.blocks[block].feed.register_forward_pre_hook(fail)
    ctx.out = out
    input = DigitsInput(**item)
    began = time.perf_counter()
    try:
        result = handler.run(ctx, input)
    except Broken:
        return {"result": None, "broken": True}
    seconds = time.perf_counter() - began
    if ctx.rank == 0:
        save_file({"final": handler.states[-1].contiguous()}, out / "final.safetensors")
    return {"result": result, "seconds": seconds}


class Broken(Exception):
    pass


def fail(*_):
    raise Broken


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]))
