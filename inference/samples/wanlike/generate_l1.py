"""Draws a digit as it comes out of the noise. Of the shape of Wan2.1's generate.py; changed in a few
lines for Muster (docs/sdk.md: `diff generate.py generate_l1.py`); runs under plain torchrun as before.

torchrun --nproc-per-node 4 generate_l1.py --prompt "a seven" --ulysses_size 4 --dit_fsdp --save_file seven.gif
"""

import argparse
import logging
import os
import random
import sys
from datetime import datetime

import digitvideo
import torch
import torch.distributed as dist
from digitvideo import CONFIGS, SIZES, cache_video, str2bool

from inference import sdk

EXAMPLE_PROMPT = "a seven"


def _validate_args(args):
    assert args.task in CONFIGS, f"Unsupported task: {args.task}"
    if args.sample_steps is None:
        args.sample_steps = CONFIGS[args.task]["sample_steps"]
    args.base_seed = args.base_seed if args.base_seed >= 0 else random.randint(0, sys.maxsize)
    assert args.frame_num >= 2, f"Unsupported frame_num {args.frame_num}: a video has at least 2 frames"


def _parse_args():
    parser = argparse.ArgumentParser(description="Generate a video of a digit from a text prompt")
    parser.add_argument("--task", type=str, default="t2v-digits", choices=list(CONFIGS), help="The task to run.")
    parser.add_argument("--size", type=str, default="256*256", choices=list(SIZES), help="Width*height in pixels.")
    parser.add_argument("--frame_num", type=int, default=11, help="How many frames to keep.")
    parser.add_argument("--ckpt_dir", type=str, default=None, help="The weights; default: those that come along.")
    parser.add_argument("--offload_model", type=str2bool, default=None, help="Whether to offload between forwards.")
    parser.add_argument("--ulysses_size", type=int, default=1, help="Ranks that share the sequence.")
    parser.add_argument("--dit_fsdp", action="store_true", default=False, help="Whether to shard the transformer.")
    parser.add_argument("--save_file", type=str, default=None, help="The file to save the video to.")
    parser.add_argument("--prompt", type=str, default=None, help="The digit to draw, in words.")
    parser.add_argument("--base_seed", type=int, default=-1, help="The seed; below 0: a random one.")
    parser.add_argument("--sample_solver", type=str, default="euler", choices=["euler"], help="The solver.")
    parser.add_argument("--sample_steps", type=int, default=None, help="The sampling steps.")
    parser.add_argument("--sample_guide_scale", type=float, default=2.0, help="Classifier-free guidance scale.")
    parser.add_argument("--step_seconds", type=float, default=0.0, help="Slows every step down, for demonstrations.")
    args = parser.parse_args()
    _validate_args(args)
    return args


def _init_logging(rank):
    if rank == 0:
        logging.basicConfig(
            level=logging.INFO,
            format="[%(asctime)s] %(levelname)s: %(message)s",
            handlers=[logging.StreamHandler(stream=sys.stdout)],
        )
    else:
        logging.basicConfig(level=logging.ERROR)


def generate(args):
    rank = int(os.getenv("RANK", "0"))
    world_size = int(os.getenv("WORLD_SIZE", "1"))
    local_rank = int(os.getenv("LOCAL_RANK", "0"))
    _init_logging(rank)

    if args.offload_model is None:
        args.offload_model = world_size == 1
        logging.info(f"offload_model is not specified, set to {args.offload_model}.")
    if world_size > 1:
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank)
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        sdk.init_process_group(backend=backend, init_method="env://", rank=rank, world_size=world_size)
    else:
        assert not args.dit_fsdp, "dit_fsdp is not supported in non-distributed environments."
        assert args.ulysses_size == 1, "sequence parallel is not supported in non-distributed environments."

    cfg = CONFIGS[args.task]
    if args.ulysses_size > 1:
        assert args.ulysses_size == world_size, "ulysses_size should be equal to the world size."
        assert cfg["num_heads"] % args.ulysses_size == 0, f"{cfg['num_heads']} heads cannot be divided evenly."
    logging.info(f"Generation job args: {args}")

    if dist.is_initialized():
        base_seed = [args.base_seed] if rank == 0 else [None]
        dist.broadcast_object_list(base_seed, src=0)
        args.base_seed = base_seed[0]
    if args.prompt is None:
        args.prompt = EXAMPLE_PROMPT
    print(f"rank {rank} draws {args.prompt!r} from seed {args.base_seed}", flush=True)

    logging.info("Creating DigitVideo pipeline.")
    pipeline = sdk.cached(digitvideo.DigitVideo)(
        config=cfg,
        checkpoint_dir=args.ckpt_dir,
        device_id=local_rank,
        rank=rank,
        dit_fsdp=args.dit_fsdp,
        use_usp=args.ulysses_size > 1,
    )
    logging.info("Generating video ...")
    video = pipeline.generate(
        args.prompt,
        frame_num=args.frame_num,
        sampling_steps=args.sample_steps,
        guide_scale=args.sample_guide_scale,
        seed=args.base_seed,
        step_s=args.step_seconds,
    )

    if rank == 0:
        if args.save_file is None:
            stamp = datetime.now().strftime("%Y%m%d_%H%M%S")
            args.save_file = f"{args.task}_{args.prompt.replace(' ', '_')[:50]}_{stamp}" + ".gif"
        logging.info(f"Saving generated video to {args.save_file}")
        cache_video(video, save_file=args.save_file, size=SIZES[args.size])
    logging.info("Finished.")
    return {"prompt": args.prompt, "seed": args.base_seed}


if __name__ == "__main__":
    sdk.main(lambda: generate(_parse_args()))
