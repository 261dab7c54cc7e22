"""A handler for tests of storage: reads the file of its input, keeps checkpoints, may die, writes what it read."""

import os
from pathlib import Path
from typing import Any

import torch

from inference import Context, Handler


class Copier(Handler):  # type: ignore[type-arg]
    def setup(self, ctx: Context) -> None:
        pass

    def run(self, ctx: Context, input: dict[str, Any]) -> dict[str, Any]:
        content = Path(input["image"]).read_bytes()
        found = ctx.restore()
        start = found[1] if found else 0
        for step in ctx.steps(range(start, 4), total=4, start=start):
            if input.get("dies") and ctx.attempt == 1 and step == 3 and ctx.rank == 1:
                os._exit(1)
            ctx.checkpoint({"step": torch.tensor([step + 1]), "rank": ctx.rank}, step + 1)
        if ctx.rank == 0:
            ctx.output("copy of it.bin").write_bytes(content * int(input.get("times", 1)))
        return {"start": start, "read": len(content), "kept": int(found[0]["rank"]) if found else None}
