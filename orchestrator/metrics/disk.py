"""The room on the file system that outputs and uploads lie on, asked for at each scrape."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Disk(Collector):
    """Of a folder that may not be there yet: then of what it will be in. Silent where it cannot be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return _families(0, 0)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        there = next((one for one in (self._folder, *self._folder.parents) if one.is_dir()), None)
        try:
            if there is not None:
                room = shutil.disk_usage(there)
                yield from _families(room.total, room.free)
        except OSError:
            return


def _families(total: int, free: int) -> list[GaugeMetricFamily]:
    return [
        GaugeMetricFamily(
            "muster_storage_size_bytes", "Size of the file system that outputs and uploads lie on.", value=total
        ),
        GaugeMetricFamily("muster_storage_free_bytes", "Free room on it, for this process.", value=free),
    ]
