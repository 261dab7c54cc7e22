"""Calls in the order of Wan2.1's generate.py, written anew; test_wan.py puts the real one here if it has it."""

import argparse
import logging
import os
import random
import sys

import torch
import torch.distributed as dist
import wan
from wan.configs import SIZE_CONFIGS, SUPPORTED_SIZES, WAN_CONFIGS
from wan.utils.utils import cache_video, str2bool


def _parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", type=str, default="t2v-14B", choices=list(WAN_CONFIGS))
    parser.add_argument("--size", type=str, default="1280*720", choices=list(SIZE_CONFIGS))
    parser.add_argument("--frame_num", type=int, default=None)
    parser.add_argument("--ckpt_dir", type=str, default=None)
    parser.add_argument("--offload_model", type=str2bool, default=None)
    parser.add_argument("--ulysses_size", type=int, default=1)
    parser.add_argument("--ring_size", type=int, default=1)
    parser.add_argument("--dit_fsdp", action="store_true", default=False)
    parser.add_argument("--t5_fsdp", action="store_true", default=False)
    parser.add_argument("--t5_cpu", action="store_true", default=False)
    parser.add_argument("--sample_shift", type=float, default=None)
    parser.add_argument("--sample_guide_scale", type=float, default=5.0)
    parser.add_argument("--save_file", type=str, default=None)
    parser.add_argument("--prompt", type=str, default=None)
    parser.add_argument("--base_seed", type=int, default=-1)
    parser.add_argument("--sample_solver", type=str, default="unipc", choices=["unipc", "dpm++"])
    parser.add_argument("--sample_steps", type=int, default=None)
    args = parser.parse_args()
    assert args.ckpt_dir is not None, "Please specify the checkpoint directory."
    assert args.size in SUPPORTED_SIZES[args.task], f"Unsupport size {args.size}"
    args.base_seed = args.base_seed if args.base_seed >= 0 else random.randint(0, sys.maxsize)
    return args


def generate(args):
    rank, world_size = int(os.getenv("RANK", "0")), int(os.getenv("WORLD_SIZE", "1"))
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR)
    if world_size > 1:
        torch.cuda.set_device(rank)
        dist.init_process_group(backend="nccl", init_method="env://", rank=rank, world_size=world_size)
    if args.ulysses_size > 1 or args.ring_size > 1:
        from xfuser.core.distributed import init_distributed_environment, initialize_model_parallel

        init_distributed_environment(rank=dist.get_rank(), world_size=dist.get_world_size())
        initialize_model_parallel(
            sequence_parallel_degree=dist.get_world_size(),
            ring_degree=args.ring_size,
            ulysses_degree=args.ulysses_size,
        )
    if dist.is_initialized():
        base_seed = [args.base_seed] if rank == 0 else [None]
        dist.broadcast_object_list(base_seed, src=0)
        args.base_seed = base_seed[0]
    wan_t2v = wan.WanT2V(
        config=WAN_CONFIGS[args.task],
        checkpoint_dir=args.ckpt_dir,
        rank=rank,
        dit_fsdp=args.dit_fsdp,
        use_usp=(args.ulysses_size > 1 or args.ring_size > 1),
    )
    video = wan_t2v.generate(
        args.prompt, size=SIZE_CONFIGS[args.size], sampling_steps=args.sample_steps or 5, seed=args.base_seed
    )
    if rank == 0:
        suffix = ".mp4"
        cache_video(tensor=video, save_file=args.save_file or "video" + suffix)
    logging.info("Finished.")


if __name__ == "__main__":
    args = _parse_args()
    generate(args)
