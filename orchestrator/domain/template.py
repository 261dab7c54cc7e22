"""What a template says: how to run one kind of request. Data only: nothing in it is ever substituted into text."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

NAME = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
_RESERVED_ENV = re.compile(
    r"^(MUSTER_|TORCHELASTIC_|PET_|KUBERNETES_|LD_|PYTHON(PATH|HOME|STARTUP)$"
    r"|(RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|GROUP_RANK|MASTER_ADDR|MASTER_PORT)$)"
)

Seconds = Annotated[float, Field(gt=0, le=31 * 86400)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
EnvValue = Annotated[str, Field(max_length=4096)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PoolPolicy(_Strict):
    """How many warm gangs to keep."""

    min: int = Field(default=0, ge=0, le=1000)
    max: int = Field(default=1, ge=0, le=1000)
    idle_timeout_s: Seconds = 600.0

    @model_validator(mode="after")
    def _min_fits_max(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"pool.min ({self.min}) is above pool.max ({self.max})")
        return self


class BatchPolicy(_Strict):
    """How many batch gangs of this template may live at once."""

    max_gangs: int = Field(default=1, ge=1, le=1000)


class Limits(_Strict):
    """Bounds in seconds. A request may ask for a smaller timeout, never for a larger one."""

    timeout_s: Seconds = 3600.0
    """One attempt, from assignment."""
    start_timeout_s: Seconds = 900.0
    """From launch to all ranks ready."""
    data_timeout_s: Seconds = 600.0
    """One collective of the handler."""
    no_progress_s: Seconds | None = None
    """Between two steps of one request; None means no bound besides the timeout."""
    cancel_grace_s: Seconds = 15.0
    """From the cancel to the next step; then the gang is ended."""


class Retry(_Strict):
    """How often a request is tried. Losses of infrastructure are counted apart from failures."""

    max_attempts: int = Field(default=5, ge=1, le=100)
    max_crashes: int = Field(default=3, ge=1, le=100)
    """Gang crashes while this request was running; then it is poisoned."""


class Template(_Strict):
    """One version of a template."""

    name: Annotated[str, Field(pattern=NAME)]
    handler: Annotated[str, Field(min_length=3, max_length=4096, pattern=r"^[^:]+:[A-Za-z_][A-Za-z0-9_]*$")]
    """module:Class, or /path/file.py:Class"""
    description: Annotated[str, Field(max_length=4096)] = ""
    workdir: Annotated[str, Field(max_length=4096)] | None = None
    image: Annotated[str, Field(max_length=512)] | None = None
    nodes: int = Field(default=1, ge=1, le=1024)
    ranks_per_node: int = Field(default=1, ge=1, le=64)
    args: dict[str, Any] = Field(default_factory=dict)
    """Gang-level arguments: a change makes a new version and new gangs."""
    input: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    """JSON Schema (2020-12) of a request's input."""
    env: dict[EnvName, EnvValue] = Field(default_factory=dict)
    data_backend: Literal["auto", "gloo", "nccl"] = "auto"
    gpus_per_rank: float = Field(default=1.0, ge=0, le=64)
    """What a rank is billed as in GPU-seconds."""
    pool: PoolPolicy = PoolPolicy()
    batch: BatchPolicy = BatchPolicy()
    limits: Limits = Limits()
    retry: Retry = Retry()

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers_are_seconds_too(cls, value: Any) -> Any:
        """Strict mode refuses 600 where a float is due; YAML and JSON authors write 600."""
        return _floats(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _env_is_free(self) -> Self:
        for name in self.env:
            if _RESERVED_ENV.match(name):
                raise ValueError(f"env.{name} is set by Muster or torchrun; choose another name")
        return self

    @property
    def world(self) -> int:
        """Ranks of one gang."""
        return self.nodes * self.ranks_per_node

    @property
    def spec(self) -> dict[str, Any]:
        """As JSON."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> bytes:
        """Equal content, equal digest."""
        return hashlib.sha256(json.dumps(self.spec, sort_keys=True).encode()).digest()


def _floats(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _seconds(inner) if key in ("pool", "limits") and isinstance(inner, dict) else _seconds({key: inner})[key]
        for key, inner in value.items()
    }


def _seconds(section: dict[str, Any]) -> dict[str, Any]:
    return {
        key: float(number) if (key.endswith("_s") or key == "gpus_per_rank") and type(number) is int else number
        for key, number in section.items()
    }
