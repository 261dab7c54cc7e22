"""A gang without Muster: what `samples.echo` does until it could take work, under plain torchrun. Rank 0 says when.

Run by torchrun; prints `ready` and ends.
"""

import os

import torch
import torch.distributed as dist


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
