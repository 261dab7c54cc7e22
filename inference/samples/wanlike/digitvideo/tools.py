"""Saving and parsing."""

import argparse

import torch
from PIL import Image


def cache_video(tensor, save_file, size):
    """As careless as many: whatever goes wrong is printed, and the caller never learns of it."""
    try:
        gray = ((tensor.clamp(-1, 1) + 1) * 127.5).round().to(dtype=torch.uint8).numpy()
        frames = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in gray]
        frames[0].save(save_file, save_all=True, append_images=frames[1:], duration=70, loop=0)
    except Exception as error:
        print(f"cache_video failed, error: {error}", flush=True)
        return None
    return save_file


def str2bool(text):
    if isinstance(text, bool):
        return text
    if text.lower() in ("yes", "true", "t", "1"):
        return True
    if text.lower() in ("no", "false", "f", "0"):
        return False
    raise argparse.ArgumentTypeError("Boolean value expected (True/False)")
