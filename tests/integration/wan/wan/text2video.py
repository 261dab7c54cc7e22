import torch
import torch.distributed as dist
from tqdm import tqdm

# The real scripts call these wherever there are several ranks.
torch.cuda.set_device = lambda device: None
torch.cuda.synchronize = lambda device=None: None


class WanT2V:
    def __init__(self, config, checkpoint_dir, device_id=0, rank=0, **flags):
        print(f"rank {rank} loads {checkpoint_dir}", flush=True)
        self.rank = rank
        if dist.is_initialized():
            dist.barrier()

    def generate(self, prompt, *images, sampling_steps=5, seed=-1, **wishes):
        state = torch.tensor([float(seed % 997), float(len(prompt))])
        for _, _step in enumerate(tqdm(range(sampling_steps))):
            if dist.is_initialized():
                dist.all_reduce(state, op=dist.ReduceOp.MAX)
            state = state * 0.5
        if dist.is_initialized():
            dist.barrier()
        return state if self.rank == 0 else None
