"""A handler that fails in every way that gangs fail, on demand: to see what people are shown, and what becomes of it.

`how` names the way, `on_rank` the rank it strikes (all other ranks go on as if nothing were), `at_step` when.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from typing import Any

import torch
import torch.distributed as dist
from pydantic import Field

from inference import Context, Handler, Input

FOREVER_S = 3600
_leaked: list[bytes] = []


class FailingInput(Input):
    how: str = "not"
    on_rank: int = 1
    at_step: int = Field(2, ge=0)
    steps: int = Field(5, ge=1, le=100_000)
    step_s: float = Field(0.02, ge=0, le=60)
    megabytes: int = Field(64, ge=1, le=4096)


class Failing(Handler[FailingInput]):
    Input = FailingInput

    def run(self, ctx: Context, input: FailingInput) -> dict[str, Any]:
        if input.how != "not" and not hasattr(Ways, input.how):
            raise ValueError(f"no way {input.how!r} to fail")
        print(f"rank {ctx.rank} begins", flush=True)  # noqa: T201 (the request's log)
        strikes = input.how != "not" and (ctx.rank == input.on_rank or input.on_rank < 0)
        for step in ctx.steps(range(input.steps), phase="work"):
            time.sleep(input.step_s)
            if strikes and step == input.at_step:
                print(f"rank {ctx.rank} is about to fail: {input.how}", flush=True)  # noqa: T201
                if getattr(Ways, input.how)(ctx, input) == "leave":
                    return {}
            dist.all_reduce(torch.ones(1, device=ctx.device), group=ctx.data_group)
        return {"pid": os.getpid(), "steps": input.steps}


class Ways:
    """Each a method: (ctx, input). `leave`: out of `run`, as if all were done."""

    # --- standing still ---

    @staticmethod
    def hang_in_python(ctx: Context, input: FailingInput) -> None:
        while True:
            time.sleep(0.1)

    @staticmethod
    def hang_in_c(ctx: Context, input: FailingInput) -> None:
        ctypes.CDLL(None).sleep(FOREVER_S)  # lets the interpreter lock go

    @staticmethod
    def hang_with_lock(ctx: Context, input: FailingInput) -> None:
        ctypes.PyDLL(None).sleep(FOREVER_S)  # keeps the interpreter lock

    @staticmethod
    def never_join(ctx: Context, input: FailingInput) -> str:
        return "leave"

    # --- errors ---

    @staticmethod
    def raise_error(ctx: Context, input: FailingInput) -> None:
        raise ValueError(f"rank {ctx.rank} raises as asked")

    @staticmethod
    def out_of_gpu_memory(ctx: Context, input: FailingInput) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory, simulated. Tried to allocate 2.00 GiB")

    @staticmethod
    def out_of_memory(ctx: Context, input: FailingInput) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, hard))
        try:
            bytearray(16 << 30)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    @staticmethod
    def exit_by_sys(ctx: Context, input: FailingInput) -> None:
        sys.exit(3)

    @staticmethod
    def exit_by_os(ctx: Context, input: FailingInput) -> None:
        os._exit(7)

    @staticmethod
    def killed(ctx: Context, input: FailingInput) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def terminated(ctx: Context, input: FailingInput) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(FOREVER_S)

    @staticmethod
    def crash(ctx: Context, input: FailingInput) -> None:
        ctypes.string_at(0)

    @staticmethod
    def abort(ctx: Context, input: FailingInput) -> None:
        os.abort()

    @staticmethod
    def leak(ctx: Context, input: FailingInput) -> None:
        """Not a failure yet: `megabytes` that no one gives back."""
        _leaked.append(b"x" * (input.megabytes << 20))

    # --- files; they strike rank 0, which publishes ---

    @staticmethod
    def no_file(ctx: Context, input: FailingInput) -> None:
        ctx.output("never.bin")

    @staticmethod
    def empty_file(ctx: Context, input: FailingInput) -> None:
        ctx.output("empty.bin").touch()

    @staticmethod
    def half_a_file(ctx: Context, input: FailingInput) -> None:
        ctx.output("half.bin").write_bytes(b"half")
        raise OSError(5, "the encoder died in the middle of the file")

    @staticmethod
    def disk_full(ctx: Context, input: FailingInput) -> None:
        """As near as one comes without a small disk: the kernel refuses what is over the limit."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        try:
            ctx.output("large.bin").write_bytes(b"x" * (2 << 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @staticmethod
    def large_file(ctx: Context, input: FailingInput) -> None:
        with ctx.output("large.bin").open("wb") as file:
            file.truncate(input.megabytes << 20)
