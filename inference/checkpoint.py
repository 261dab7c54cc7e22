"""Checkpoints of a request: every rank's part as safetensors, then a manifest that makes them one. No pickle.

They lie under the request's own prefix, so a later attempt finds them, also on another gang of the same shape. A
checkpoint without its manifest, or with a part whose sha256 is another one, does not exist. Knows no groups: how the
ranks agree is the context's affair.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.publish import put

if TYPE_CHECKING:
    from torch import Tensor

KEEP = 2
CANDIDATES = 4
_MANIFEST = "manifest.json"


class CheckpointFailed(Exception):
    """A part could not be stored; the message names rank and cause."""


class Checkpoints:
    """Of one request, seen from one rank. `number` is the attempt's: two attempts never write the same file."""

    def __init__(self, prefix: str, scratch: Path, *, number: int, rank: int, world: int) -> None:
        self._prefix = prefix.rstrip("/")
        self._scratch = scratch
        self._number = number
        self._rank = rank
        self._world = world

    def save_part(self, state: dict[str, Any], step: int, moved: Callable[[], None]) -> dict[str, Any]:
        """Stores this rank's part; what the manifest says of it."""
        from safetensors.torch import save_file

        tensors, values = _split(state)
        self._scratch.mkdir(parents=True, exist_ok=True)
        draft = self._scratch / "checkpoint.safetensors"
        try:
            save_file(tensors, draft, {"values": json.dumps(values, allow_nan=False)})
            size, digest = put(draft, f"{self._folder(step)}/{_part(self._rank)}", moved)
        finally:
            draft.unlink(missing_ok=True)
        return {"bytes": size, "sha256": digest}

    def seal(self, step: int, parts: list[dict[str, Any]], moved: Callable[[], None]) -> None:
        """Rank 0, when all parts are stored: the manifest, and no more than `KEEP` checkpoints."""
        draft = self._scratch / _MANIFEST
        draft.write_text(json.dumps({"step": step, "world": self._world, "parts": parts}))
        put(draft, f"{self._folder(step)}/{_MANIFEST}", moved)
        draft.unlink()
        for folder in self.found()[KEEP:]:
            self._remove(folder)

    def found(self) -> list[str]:
        """Folders that have a manifest, the farthest step first."""
        files, root = self._files()
        names = {name.removeprefix(root).strip("/") for name in files.find(root)} if files.exists(root) else set()
        return sorted((name.rpartition("/")[0] for name in names if name.endswith(f"/{_MANIFEST}")), reverse=True)

    def load_part(self, folder: str) -> tuple[dict[str, Any], int]:
        """This rank's part and the step. Raises ValueError or OSError for what is not whole."""
        manifest = json.loads(self._read(f"{folder}/{_MANIFEST}"))
        if manifest["world"] != self._world:
            raise ValueError(f"checkpoint {folder} is of {manifest['world']} ranks")
        content = self._read(f"{folder}/{_part(self._rank)}")
        if hashlib.sha256(content).hexdigest() != manifest["parts"][self._rank]["sha256"]:
            raise ValueError(f"checkpoint {folder}: the part of rank {self._rank} is damaged")
        return _parse(content), int(manifest["step"])

    def remove_all(self) -> None:
        """At the end of the request."""
        files, root = self._files()
        if files.exists(root):
            files.rm(root, recursive=True)

    def leave(self) -> None:
        """The folder for drafts."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _folder(self, step: int) -> str:
        return f"{self._prefix}/{step:09d}-{self._number}"

    def _remove(self, folder: str) -> None:
        """The manifest first: what is half removed does not exist."""
        files, root = self._files()
        files.rm(f"{root}/{folder}/{_MANIFEST}")
        files.rm(f"{root}/{folder}", recursive=True)

    def _read(self, name: str) -> bytes:
        files, root = self._files()
        content: bytes = files.cat_file(f"{root}/{name}")
        return content

    def _files(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        files, root = url_to_fs(self._prefix, use_listings_cache=False)  # other ranks write there
        return files, root.rstrip("/")


def _part(rank: int) -> str:
    return f"rank-{rank}.safetensors"


def _split(state: dict[str, Any]) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Tensors, and what JSON can hold."""
    from torch import Tensor

    tensors = {name: value.detach().contiguous() for name, value in state.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in state.items() if name not in tensors}


def _parse(content: bytes) -> dict[str, Any]:
    from safetensors.torch import load

    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {**load(content), **json.loads(header["__metadata__"]["values"])}
