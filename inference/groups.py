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
        self.fragile = self.backend == "nccl"  # a broken collective may leave groups that no probe reaches
        self._mesh: DeviceMesh | None = None
        self._lasting: list[dist.ProcessGroup] = []

    @property
    def mesh(self) -> DeviceMesh:
        """Made when first asked for. Its group is its own: sharded parameters hold on to it for the incarnation."""
        if self._mesh is None:
            self._mesh = DeviceMesh.from_group(self.lasting(), self._device.type)
        return self._mesh

    def lasting(self, backend: str | None = None) -> dist.ProcessGroup:
        """A group over all ranks for the rest of the incarnation."""
        group = self._make(backend)
        self._lasting.append(group)
        return group

    def recover(self) -> bool:
        """After a failed attempt: a fresh data group, and a check that the others are still in step. False: restart."""
        try:
            dist.destroy_process_group(self.group)
            self.group = self._make()
            for group in self._lasting:
                self._probe(group)
        except RuntimeError:
            return False
        return True

    def _make(self, backend: str | None = None) -> dist.ProcessGroup:
        group = dist.new_group(backend=backend or self.backend, timeout=self._timeout)
        assert isinstance(group, dist.ProcessGroup)
        return group

    def _probe(self, group: dist.ProcessGroup) -> None:
        """A rank that missed a collective is one sequence number behind: then this never matches, and times out."""
        options = dist.AllreduceOptions()
        options.timeout = PROBE
        work = group.allreduce([torch.zeros(1, device=self._device_of(group))], options)
        work.wait()
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def _device_of(self, group: dist.ProcessGroup) -> torch.device:
        return torch.device("cpu") if dist.get_backend(group) == "gloo" else self._device


def _backend(configured: str, device: torch.device) -> str:
    if configured != "auto":
        return configured
    return "nccl" if device.type == "cuda" else "gloo"
