"""Trains the committed weights on scikit-learn's 8x8 digits, one process, CPU, about ten minutes on one core.

    python -m inference.samples.digits.train --out weights.safetensors

Rectified flow: the network learns the straight line from noise to picture, times drawn logit-normal (Esser et al.
2024, arXiv:2403.03206). A tenth of the labels is dropped for classifier-free guidance; what is saved is the
exponential moving average. Seeds are fixed. Needs the `dev` extra (scikit-learn); nothing in a pod imports this.
"""

import argparse
import copy
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional

from inference.samples.digits import weights
from inference.samples.digits.model import CLASSES, NO_CLASS, DiffusionTransformer, Shape, to_images, to_tokens
from inference.samples.digits.sampler import denoise, guided, start_tokens

BATCH = 128
PEAK_RATE = 1.5e-3
WARMUP_STEPS = 100
DECAY = 0.999  # of the moving average, per step
DROPPED_LABELS = 0.1
INK = 8.0  # the data's 0..16 becomes -1..1


def main() -> None:
    arguments = read_arguments()
    torch.set_num_threads(arguments.threads)
    os.nice(10)
    model = train(Shape(), steps=arguments.steps, seed=arguments.seed)
    weights.save(model, arguments.out)
    share = share_read_as_asked(weights.load(arguments.out), seeds=range(8))
    report(f"wrote {arguments.out}, {arguments.out.stat().st_size} bytes; {share:.1%} read as asked")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=weights.COMMITTED)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def train(shape: Shape, *, steps: int, seed: int) -> DiffusionTransformer:
    """The moving average of the weights after `steps` optimizer steps."""
    torch.manual_seed(seed)
    model = DiffusionTransformer(shape)
    model.start_as_identity()
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    began, smooth = time.monotonic(), math.nan
    for step, (images, labels) in zip(range(1, steps + 1), batches(), strict=False):
        optimizer.zero_grad()
        loss = flow_loss(model, to_tokens(images, shape.patch), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        follow(average, model, min(DECAY, step / (step + 10)))
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        if step % 100 == 0 or step == steps:
            report(f"step {step}/{steps}  loss {smooth:.4f}  {time.monotonic() - began:.0f} s")
    return average.eval()


def rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine down to zero."""
    return min(step / WARMUP_STEPS, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Endless shuffled (BATCH, 8, 8) images in -1..1 with (BATCH,) labels."""
    images, labels = training_set()
    while True:
        order = torch.randperm(len(images))
        for chosen in order[: len(order) - len(order) % BATCH].view(-1, BATCH):
            yield images[chosen], labels[chosen]


def training_set() -> tuple[Tensor, Tensor]:
    """All 1797 images (n, 8, 8) in -1..1 and their labels (n,)."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32).view(-1, 8, 8) / INK - 1, torch.tensor(labels)


def flow_loss(model: DiffusionTransformer, clean: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the velocity at random times on the line from `clean` to noise."""
    times = torch.randn(len(clean)).sigmoid()
    noise = torch.randn_like(clean)
    noisy = torch.lerp(clean, noise, times[:, None, None])
    shown = torch.where(torch.rand(len(labels)) < DROPPED_LABELS, NO_CLASS, labels)
    return functional.mse_loss(model(noisy, times, shown), noise - clean)


@torch.no_grad()
def follow(average: DiffusionTransformer, model: DiffusionTransformer, decay: float) -> None:
    for kept, fresh in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(fresh, 1 - decay)


def draw(model: DiffusionTransformer, digit: int, seed: int, *, count: int = 1, steps: int = 30) -> Tensor:
    """(count, size, size) in -1..1 in this process alone, with the guidance the handler uses by default."""
    shape = model.shape
    start = start_tokens(seed, count, shape.size, shape.patch)
    *_, final = denoise(guided(model, digit, guidance=2.0), start, steps)
    return to_images(final, shape.patch).clamp(-1, 1)


def share_read_as_asked(model: DiffusionTransformer, seeds: range) -> float:
    """Share of (digit, seed) pairs that a support vector machine trained on the real digits reads as asked."""
    images, labels = training_set()
    reader = SVC(gamma=0.02).fit(images.flatten(1).numpy(), labels.numpy())
    asked = [digit for digit in range(CLASSES) for _ in seeds]
    drawn = torch.cat([draw(model, digit, seed) for digit in range(CLASSES) for seed in seeds])
    return float(reader.score(drawn.flatten(1).numpy(), asked))


def report(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (a command's output)


if __name__ == "__main__":
    main()
