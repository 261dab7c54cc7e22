"""Where the programs of a control plane lie. Following controller-runtime, KUBEBUILDER_ASSETS names a folder with
them; MUSTER_KUBE another one, whose files may be compressed (.xz). What is in neither is looked for on the PATH."""

from __future__ import annotations

import lzma
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager")


@dataclass(frozen=True, kw_only=True)
class Binaries:
    etcd: Path
    apiserver: Path
    controller_manager: Path


def missing(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The programs that are not at hand."""
    return [name for name in NAMES if _source(name, environ) is None]


def remedy(lacking: list[str]) -> str:
    return f"{', '.join(lacking)} not found: set KUBEBUILDER_ASSETS or MUSTER_KUBE (tests/cluster/README.md)"


def find(environ: Mapping[str, str] = os.environ) -> Binaries:
    """All of them, unpacked where need be."""
    etcd, apiserver, controllers = (_unpacked(_source(name, environ), name) for name in NAMES)
    return Binaries(etcd=etcd, apiserver=apiserver, controller_manager=controllers)


def _source(name: str, environ: Mapping[str, str]) -> Path | None:
    folders = [Path(environ[key]) for key in ("KUBEBUILDER_ASSETS", "MUSTER_KUBE") if environ.get(key)]
    for candidate in (folder / file for folder in folders for file in (name, f"{name}.xz")):
        if candidate.is_file():
            return candidate
    on_path = shutil.which(name)
    return Path(on_path) if on_path else None


def _unpacked(source: Path | None, name: str) -> Path:
    assert source is not None, f"{name} is not at hand"
    if source.suffix != ".xz":
        return source
    cache = Path(_cache()) / f"{source.stat().st_size}-{int(source.stat().st_mtime)}"
    target = cache / name
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with lzma.open(source) as packed, tempfile.NamedTemporaryFile(dir=cache, delete=False) as draft:
            shutil.copyfileobj(packed, draft, 1 << 20)
        Path(draft.name).chmod(0o755)
        Path(draft.name).replace(target)
    return target


def _cache() -> str:
    """Outside the repository, kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(base) / "muster-tests" / "kube")
