"""Text to video: a diffusion transformer, sharded over all ranks, its sequence split over all ranks."""

import logging
import time

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from tqdm import tqdm

from inference.samples.digits import sampler, weights
from inference.samples.digits.model import to_images
from inference.samples.digits.sequence import ONE_RANK, SequenceParallel

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class DigitVideo:
    def __init__(self, config, checkpoint_dir, device_id=0, rank=0, dit_fsdp=False, use_usp=False):
        print(f"rank {rank} builds {config['name']}", flush=True)
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", device_id) if cuda else torch.device("cpu")
        self.rank = rank
        self.model = weights.load() if checkpoint_dir is None else weights.load(checkpoint_dir)
        self.sequence = SequenceParallel.over(dist.group.WORLD) if use_usp else ONE_RANK
        if dit_fsdp:
            mesh = init_device_mesh(self.device.type, (dist.get_world_size(),))
            for module in [*self.model.blocks, self.model]:
                fully_shard(module, mesh=mesh)
        self.model.to(self.device)
        if dist.is_initialized():
            dist.barrier()

    def generate(self, prompt, frame_num=11, sampling_steps=10, guide_scale=2.0, seed=0, step_s=0.0):
        """(frames, size, size) in -1..1 on rank 0, None elsewhere."""
        shape = self.model.shape
        digit = next((number for number, word in enumerate(WORDS) if word in prompt.lower().split()), 8)
        start = sampler.start_tokens(seed, 1, shape.size, shape.patch).to(self.device)
        velocity = sampler.guided(self.model, digit, guide_scale, self.sequence)
        state = self.sequence.shard(start)
        states = [state]
        times = torch.linspace(1, 0, sampling_steps + 1).tolist()
        for i, now in enumerate(tqdm(times[:-1])):
            time.sleep(step_s)
            state = state + (times[i + 1] - now) * velocity(state, now)
            states.append(state)
        whole = self.sequence.gather(torch.cat(states)).cpu()
        if dist.is_initialized():
            dist.barrier()
        if self.rank != 0:
            return None
        video = to_images(whole, shape.patch)
        places = torch.linspace(0, len(video) - 1, frame_num).round().long()
        logging.info("Sampled %d frames.", frame_num)
        return video[places]
