"""What the backend and torchrun tell a rank through its environment. Reads, checks, and knows nothing else."""

import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from inference.replica import Replica


class ConfigurationError(Exception):
    """This pod can never work as it is configured; the message says which variable and what to do."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    urls: tuple[str, ...]
    gang: str
    token: str
    node: str
    scratch: Path
    input_cache_bytes: int  # of files that requests named, kept on the node for later ones
    rank: int
    local_rank: int
    world: int
    local_world: int
    agent: int  # the number of this node's agent in the gang
    replica: Replica  # the part of the gang that this rank belongs to
    join_s: float  # for every rank to come to the store of rank 0
    orphan_s: float  # idle or not yet known, and without any answer of the service for this long: nobody owns us

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> Self:
        rank, world = _number(variables, "RANK"), _number(variables, "WORLD_SIZE")
        local_rank = _number(variables, "LOCAL_RANK")
        return cls(
            urls=api_urls(variables),
            gang=gang_id(variables),
            token=gang_token(variables),
            node=node_name(variables),
            scratch=scratch_folder(variables),
            input_cache_bytes=int(variables.get("MUSTER_INPUT_CACHE_BYTES", 20 << 30)),
            rank=rank,
            local_rank=local_rank,
            world=world,
            local_world=int(variables.get("LOCAL_WORLD_SIZE", world)),
            agent=int(variables.get("GROUP_RANK", "0")),
            replica=_replica(variables, rank, world, local_rank),
            join_s=float(variables.get("MUSTER_JOIN_S", "120")),
            orphan_s=float(variables.get("MUSTER_ORPHAN_S", "900")),
        )


def _replica(variables: Mapping[str, str], rank: int, world: int, local_rank: int) -> Replica:
    count, each = int(variables.get("MUSTER_REPLICAS", "1")), int(variables.get("LOCAL_WORLD_SIZE", world))
    try:
        return Replica.of(rank=rank, world=world, local_rank=local_rank, local_world=each, count=count)
    except ValueError as error:
        raise ConfigurationError(f"MUSTER_REPLICAS: {error}") from None


def api_urls(variables: Mapping[str, str]) -> tuple[str, ...]:
    return _urls(_required(variables, "MUSTER_API_URLS"))


def gang_id(variables: Mapping[str, str]) -> str:
    return _required(variables, "MUSTER_GANG")


def node_name(variables: Mapping[str, str]) -> str:
    return variables.get("MUSTER_NODE") or socket.gethostname()


def hold_s(variables: Mapping[str, str]) -> float:
    """Without any answer of the service for this long a gang ends whatever it does, even if it holds a result."""
    return float(variables.get("MUSTER_HOLD_S", "21600"))


def scratch_folder(variables: Mapping[str, str]) -> Path:
    """One folder per gang and node: ranks of one node may share files through it."""
    named = variables.get("MUSTER_SCRATCH")
    return Path(named) if named else Path(tempfile.gettempdir()) / f"muster-{variables.get('MUSTER_GANG', '')}"


def gang_token(variables: Mapping[str, str]) -> str:
    path = variables.get("MUSTER_TOKEN_FILE")
    if not path:
        return _required(variables, "MUSTER_TOKEN")
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"MUSTER_TOKEN_FILE: cannot read {path}: {error.strerror}") from error


def _required(variables: Mapping[str, str], name: str) -> str:
    value = variables.get(name, "").strip()
    if not value:
        raise ConfigurationError(f"{name} is not set: start ranks through a Muster backend and torchrun")
    return value


def _number(variables: Mapping[str, str], name: str) -> int:
    value = _required(variables, name)
    if not value.isdigit():
        raise ConfigurationError(f"{name} must be a number, not {value!r}")
    return int(value)


def _urls(value: str) -> tuple[str, ...]:
    urls = tuple(url.strip().rstrip("/") for url in value.split(",") if url.strip())
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"MUSTER_API_URLS: {url!r} is not an http(s) URL")
    return urls
