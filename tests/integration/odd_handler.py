"""A handler that misbehaves in the ways that Echo has no hooks for. Loaded by path, as a user's file is."""

import logging
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from inference import Canceled, Context, Handler


class Odd(Handler):  # type: ignore[type-arg]
    def setup(self, ctx: Context) -> None:
        self.mesh = ctx.data_mesh

    def read_image(self, ctx: Context) -> dict[str, Any]:
        read = torch.tensor([len(Path(self.image).read_bytes())])
        parts = [torch.empty_like(read) for _ in range(ctx.world)]
        dist.all_gather(parts, read, group=ctx.data_group)
        return {"read": [int(part) for part in parts]}

    def run(self, ctx: Context, input: dict[str, Any]) -> Any:
        self.image = input.get("image", "")
        return getattr(self, input["odd"])(ctx)

    def nothing(self, ctx: Context) -> None:
        return None

    def not_json(self, ctx: Context) -> dict[str, Any]:
        return {"tensor": torch.ones(1)}

    def too_large(self, ctx: Context) -> dict[str, Any]:
        return {"text": "x" * 2_000_000}

    def system_exit(self, ctx: Context) -> None:
        raise SystemExit(3)

    def different_steps(self, ctx: Context) -> None:
        for _ in ctx.steps(range(3 + ctx.rank)):
            time.sleep(0.02)

    def leaves_early(self, ctx: Context) -> None:
        for _ in ctx.steps(range(4 - ctx.rank)):
            time.sleep(0.02)

    def swallow(self, ctx: Context) -> dict[str, Any]:
        for _ in range(3):
            try:
                for _ in ctx.steps(range(1000)):
                    time.sleep(0.02)
            except Canceled:
                pass
        return {}

    def speak(self, ctx: Context) -> None:
        logging.getLogger("odd").warning("from logging")
        os.write(2, b"from C\n")
        subprocess.run(["echo", "from a child"], check=True)
        print("\r 50%\r100%")
        ctx.log(loss=1.5)
        ctx.metric("loss", 1.5)

    def break_mesh(self, ctx: Context) -> None:
        if ctx.rank == 1:
            raise ValueError("before the collective")
        dist.all_reduce(torch.ones(1), group=self.mesh.get_group())

    def stand_still(self, ctx: Context) -> None:
        for _ in ctx.steps(range(2)):
            if ctx.rank == 1:
                time.sleep(3600)
