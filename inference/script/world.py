"""The default process group as a script sees it: none, until its `init_process_group`; then a data group that stays.

The control group is the default one outside of a script's run. While a script runs, PyTorch's default is swapped, so
that `dist.all_reduce(x)` and FSDP without a group land on a group bounded by `data_timeout_s`, and never on control.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d

from inference.groups import DataGroups
from inference.script import active
from inference.script.keep import replace_everywhere


class World:
    """`touched`: the script has begun to work with the other ranks."""

    def __init__(self, groups: DataGroups) -> None:
        self._groups = groups
        self._control = dist.group.WORLD
        self._by_backend: dict[str, dist.ProcessGroup] = {}
        self._inside = False
        self.touched = False

    def install(self) -> None:
        """Once per process, before the script is imported: `from torch.distributed import …` must find ours."""
        replaced: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
            (dist.init_process_group, self._init),
            (dist.destroy_process_group, self._destroy),
            (dist.new_group, self._new_group),
        ]
        for original, ours in replaced:
            replace_everywhere(original, _in_place_of(original, ours, self))

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Within, PyTorch's default group is the script's affair."""
        self._inside, self.touched = True, False
        c10d._update_default_pg(None)
        try:
            yield
        finally:
            self._inside = False
            c10d._update_default_pg(self._control)

    def _init(self, original: Any, backend: str | None = None, *args: Any, **kwargs: Any) -> None:
        if dist.is_initialized():
            raise ValueError("trying to initialize the default process group twice!")  # as PyTorch does
        self.touched = True
        backend = self._choose(backend)
        if backend not in self._by_backend:
            c10d._update_default_pg(self._control)
            self._by_backend[backend] = self._groups.lasting(backend)
        c10d._update_default_pg(self._by_backend[backend])

    def _choose(self, wanted: str | None) -> str:
        """What the script asks for, if this machine has it; else the template's."""
        wanted = (wanted or "").lower()
        if wanted == "gloo" or (wanted == "nccl" and torch.cuda.is_available()):
            return wanted
        if wanted not in ("", self._groups.backend):
            print(f"muster: the script asks for {wanted!r}, it gets {self._groups.backend!r}", flush=True)  # noqa: T201
        return self._groups.backend

    def _destroy(self, original: Any, group: Any = None) -> None:
        if group is None or group is dist.group.WORLD:
            c10d._update_default_pg(None)  # kept for the next request
        else:
            original(group)

    def _new_group(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        self._groups.fragile = True
        return original(*args, **kwargs)


def _in_place_of(original: Any, ours: Any, world: World) -> Any:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        inside = world._inside and (active.run is None or active.run.here)
        if not inside or (ours == world._new_group and not dist.is_initialized()):
            return original(*args, **kwargs)
        return ours(original, *args, **kwargs)

    return call
