"""A script as people have them: it knows torchrun's variables and the default group, and nothing of Muster."""

import argparse
import json
import os
from pathlib import Path

import torch
import torch.distributed as dist

parser = argparse.ArgumentParser()
parser.add_argument("--number", type=int, default=0)
parser.add_argument("--out", default="out.json")


if __name__ == "__main__":
    args = parser.parse_args()
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method="env://", rank=rank, world_size=world)
    total = torch.tensor([args.number * 10 ** dist.get_rank()])
    dist.all_reduce(total)
    half = dist.new_group([0])
    if dist.get_rank() == 0:
        dist.all_reduce(total, group=half)
        Path(args.out).write_text(json.dumps({"world": dist.get_world_size(), "total": int(total)}))
    dist.destroy_process_group()
