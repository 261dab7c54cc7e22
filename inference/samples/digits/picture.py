"""From pixel values to files a person can look at: a still PNG and an animated GIF of the picture's coming about.

Knows nothing of the model: it takes values in -1..1, -1 being empty paper.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

STILL_SIDE = 384  # pixels, of the whole sheet
MOVING_SIDE = 256
MOVING_GRAYS = 32  # noise enlarged smoothly hardly compresses: 8 bits would make megabytes
MARGIN = 8  # pixels around each sample
MAX_FRAMES = 48
FRAME_MS = 70
HOLD_MS = 2000


def write_png(path: Path, samples: Tensor) -> None:
    """One still of all samples (count, size, size) in a grid."""
    sheet(samples, STILL_SIDE).save(path, format="PNG")


def write_gif(path: Path, trajectory: Sequence[Tensor]) -> None:
    """One frame per state (count, size, size) of the trajectory, thinned to MAX_FRAMES; holds the last, then loops."""
    frames = [coarse(sheet(samples, MOVING_SIDE)) for samples in thinned(trajectory)]
    durations = [FRAME_MS] * (len(frames) - 1) + [HOLD_MS]
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def thinned(trajectory: Sequence[Tensor]) -> list[Tensor]:
    """At most MAX_FRAMES states, evenly spaced, the first and the last among them."""
    count = min(len(trajectory), MAX_FRAMES)
    return [trajectory[round(place)] for place in torch.linspace(0, len(trajectory) - 1, count).tolist()]


def sheet(samples: Tensor, side: int) -> Image.Image:
    """(count, size, size) -> one gray image `side` pixels wide, samples row by row in the squarest grid."""
    columns = math.ceil(math.sqrt(len(samples)))
    rows = math.ceil(len(samples) / columns)
    cell = side // columns
    canvas = Image.new("L", (columns * cell, rows * cell))
    for place, sample in enumerate(samples):
        corner = (place % columns * cell + MARGIN, place // columns * cell + MARGIN)
        canvas.paste(enlarged(sample, cell - 2 * MARGIN), corner)
    return canvas


def enlarged(sample: Tensor, side: int) -> Image.Image:
    """(size, size) in -1..1 -> side x side gray image, smooth between the pixels."""
    gray = ((sample.clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)
    return Image.fromarray(gray.numpy()).resize((side, side), Image.Resampling.BICUBIC)


def coarse(image: Image.Image) -> Image.Image:
    """The same in MOVING_GRAYS grays, black and white among them."""
    top = MOVING_GRAYS - 1
    return image.point([round(gray / 255 * top) * 255 // top for gray in range(256)])
