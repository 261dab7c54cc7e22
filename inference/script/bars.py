"""Steps from tqdm: a bar of the script's own modules walks through `ctx.steps`: progress, cancel and liveness.

Which bars: those made in the modules that the template names, or else in any file under the script's folder. Libraries
show bars that only some ranks have; the steps of a request must be the same on all.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from inference.script import active
from inference.script.world import World


class Bars:
    def __init__(self, folder: Path, modules: Iterable[str], world: World) -> None:
        self._folder = f"{folder}/"
        self._modules = frozenset(modules)
        self._world = world

    def install(self) -> None:
        """Patches the class in place: whatever name a module has for it."""
        try:
            from tqdm.std import tqdm
        except ImportError:
            return
        tqdm.__iter__ = self._iter(tqdm.__iter__)
        tqdm.update = self._update(tqdm.update)

    def _iter(self, plain: Any) -> Any:
        def walk(bar: Any) -> Iterator[Any]:
            run = active.current()
            if run is None or not self._is_ours(sys._getframe(1)):
                found: Iterator[Any] = plain(bar)
                return found
            self._world.touched = True
            bar._muster_walks = True
            return run.context.steps(plain(bar), _phase(bar), bar.total)

        return walk

    def _update(self, plain: Any) -> Any:
        def update(bar: Any, n: float | None = 1) -> Any:
            shown = plain(bar, n)
            run = active.current()
            if run is None or bar.__dict__.get("_muster_walks") or not self._is_ours(sys._getframe(1)):
                return shown
            if "_muster_steps" not in bar.__dict__:
                bar._muster_steps = run.context.steps(itertools.count(), _phase(bar), bar.total)
            next(bar._muster_steps)
            return shown

        return update

    def _is_ours(self, frame: FrameType | None) -> bool:
        while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "tqdm":
            frame = frame.f_back
        if frame is None:
            return False
        if self._modules:
            return frame.f_globals.get("__name__") in self._modules
        return frame.f_code.co_filename.startswith(self._folder)


def _phase(bar: Any) -> str:
    return str(bar.desc or "steps").strip(" :") or "steps"
