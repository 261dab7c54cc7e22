"""The process groups that handlers compute on: one that is rebuilt after an error, and a mesh that stays.

Every method is collective: all ranks call it in the same order. Knows no requests.
"""

from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

PROBE = timedelta(seconds=10)


class DataGroups:
    def __init__(self, backend: str, timeout_s: float, device: torch.device) -> None:
        self.backend = _backend(backend, device)
        self._timeout = timedelta(seconds=timeout_s)
        self._device = device
        self.group = self._make()
        self._mesh: DeviceMesh | None = None
        self._mesh_group: dist.ProcessGroup | None = None

    @property
    def mesh(self) -> DeviceMesh:
        """Made when first asked for. Its group is its own: sharded parameters hold on to it for the incarnation."""
        if self._mesh is None:
            self._mesh_group = self._make()
            self._mesh = DeviceMesh.from_group(self._mesh_group, self._device.type)
        return self._mesh

    def recover(self) -> bool:
        """After a failed attempt: a fresh data group, and a check that the mesh is still in step. False: restart."""
        try:
            dist.destroy_process_group(self.group)
            self.group = self._make()
            if self._mesh_group is not None:
                self._probe(self._mesh_group)
        except RuntimeError:
            return False
        return True

    def _make(self) -> dist.ProcessGroup:
        group = dist.new_group(backend=self.backend, timeout=self._timeout)
        assert isinstance(group, dist.ProcessGroup)
        return group

    def _probe(self, group: dist.ProcessGroup) -> None:
        """A rank that missed a collective is one sequence number behind: then this never matches, and times out."""
        options = dist.AllreduceOptions()
        options.timeout = PROBE
        work = group.allreduce([torch.zeros(1, device=self._device)], options)
        work.wait()
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def _backend(configured: str, device: torch.device) -> str:
    if configured != "auto":
        return configured
    return "nccl" if device.type == "cuda" else "gloo"
