"""A gang without Muster: what `samples.echo` imports and does until it could take work, under plain torchrun.

Run by torchrun; rank 0 prints `ready` and all end.
"""

import os

import torch
import torch.distributed as dist

import inference.samples.echo  # noqa: F401 (the same module as under Muster)


def main() -> None:
    dist.init_process_group("gloo")
    mine = torch.tensor([os.getpid()])
    pids = [torch.zeros_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(pids, mine)
    if dist.get_rank() == 0:
        print("ready", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
