"""What a template says: how to run one kind of request. Data only: nothing in it is ever substituted into text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from orchestrator.domain.geometry import Rule, check_replicas, check_rules
from orchestrator.domain.pod import Pod
from orchestrator.domain.strict import Strict
from orchestrator.domain.wording import told
from orchestrator.errors import Invalid

NAME = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
_RESERVED_ENV = re.compile(
    r"^(MUSTER_|TORCHELASTIC_|PET_|KUBERNETES_|LD_|PYTHON(PATH|HOME|STARTUP)$"
    r"|(RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|GROUP_RANK|MASTER_ADDR|MASTER_PORT)$)"
)

Seconds = Annotated[float, Field(gt=0, le=31 * 86400)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
EnvValue = Annotated[str, Field(max_length=4096)]


def _check_env(names: Iterable[str]) -> None:
    for name in names:
        if _RESERVED_ENV.match(name):
            raise ValueError(f"env.{name} is set by Muster or torchrun; choose another name")


class PoolPolicy(Strict):
    """How many warm gangs to keep."""

    min: int = Field(default=0, ge=0, le=1000)
    max: int = Field(default=1, ge=0, le=1000)
    idle_timeout_s: Seconds = 600.0

    @model_validator(mode="after")
    def _min_fits_max(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"pool.min ({self.min}) is above pool.max ({self.max})")
        return self


class BatchPolicy(Strict):
    """How many batch gangs of this template may live at once, and whether items of batches may use warm ones too."""

    max_gangs: int = Field(default=1, ge=1, le=1000)
    share_pool: bool = False
    """Items run on warm gangs that nobody else waits for; whoever comes meanwhile waits for one item at most."""


class Limits(Strict):
    """Bounds, most in seconds. A request may ask for a smaller timeout, never for a larger one."""

    timeout_s: Seconds = 3600.0
    """One attempt, from assignment."""
    start_timeout_s: Seconds = 900.0
    """From launch to all ranks ready."""
    setup_timeout_s: Seconds | None = None
    """The handler's setup, and likewise the warm-up; None means nine tenths of `start_timeout_s`."""
    data_timeout_s: Seconds = 600.0
    """One collective of the handler."""
    no_progress_s: Seconds | None = None
    """Between two steps of one request; None means no bound besides the timeout."""
    cancel_grace_s: Seconds = 15.0
    """From the cancel to the next step; then the gang is ended."""
    max_output_bytes: int | None = Field(default=None, ge=1)
    """All outputs of one request together; None means no bound."""
    output_ttl_s: Annotated[float, Field(gt=0, le=3650 * 86400)] | None = None
    """How long outputs are kept after the end of their request; at most MUSTER_OUTPUT_RETENTION, which None means."""


class Preflight(Strict):
    """What a new gang must show before its handler is set up."""

    timeout_s: Seconds = 120.0
    """For every rank to join, and likewise for the checks."""
    min_free_mb: int | None = Field(default=None, ge=1)
    """MiB free on the device of every rank; of the host's memory where there is none."""
    min_mb_per_s: float | None = Field(default=None, gt=0)
    """MB/s of an all-reduce over the data group."""


class Warmup(Strict):
    """A request that every new gang runs before it takes work; what it returns and writes is thrown away."""

    input: dict[str, Any]


class Retry(Strict):
    """How often a request is tried. Losses of infrastructure are counted apart from failures."""

    max_attempts: int = Field(default=5, ge=1, le=100)
    max_crashes: int = Field(default=3, ge=1, le=100)
    """Gang crashes while this request was running; then it is poisoned."""


SCRIPT_HANDLER = "inference.script.handler:ScriptHandler"
ArgumentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Reference = Annotated[str, Field(max_length=512, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]


class Script(Strict):
    """An unmodified script instead of a handler; docs/script.md."""

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    """/path/generate.py, or the dotted name of an installed module"""
    gang_args: tuple[ArgumentName, ...] = ()
    """Arguments that belong to the gang: their values stand in `args`, and no request may give them."""
    memoise: tuple[Reference, ...] = ()
    """Constructors that give the same object for the same arguments, module:Class."""
    once: tuple[Reference, ...] = ()
    """Initialisers that run once per process, module:function."""
    tqdm: tuple[Annotated[str, Field(max_length=512)], ...] = ()
    """Modules whose bars are the steps; none: every file under the script's folder."""
    outputs: dict[ArgumentName, Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$")]] = Field(
        default_factory=dict
    )
    """Arguments that say where to save, and the name of the file to publish."""


class Recycle(Strict):
    """When a serve gang is drained for another one. None means no such limit."""

    max_age_s: Seconds | None = None
    """Since it was first ready."""
    max_requests: int | None = Field(default=None, ge=1)
    max_rss_growth_mb: int | None = Field(default=None, ge=1)
    """MiB of host memory that any rank grew by since its first request."""
    max_consecutive_failures: int | None = Field(default=None, ge=1)
    """Refused inputs do not count."""


class Template(Strict):
    """One version of a template."""

    name: Annotated[str, Field(pattern=NAME)]
    handler: Annotated[str, Field(min_length=3, max_length=4096, pattern=r"^[^:]+:[A-Za-z_][A-Za-z0-9_]*$")]
    """module:Class, or /path/file.py:Class; for a script the built-in one, which need not be said"""
    script: Script | None = None
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
    replicas: int = Field(default=1, ge=1, le=1024)
    """Into how many independent parts the ranks of a gang are split, each with a request of its own."""
    gpus_per_rank: float = Field(default=1.0, ge=0, le=64)
    """What a rank is billed as in GPU-seconds."""
    pool: PoolPolicy = PoolPolicy()
    batch: BatchPolicy = BatchPolicy()
    limits: Limits = Limits()
    retry: Retry = Retry()
    recycle: Recycle = Recycle()
    preflight: Preflight = Preflight()
    warmup: Warmup | None = None
    pod: Pod = Pod()
    geometry: tuple[Rule, ...] = Field(default=(), max_length=32)
    """What nodes, ranks and args must fulfil; last, since it looks at them."""

    @field_validator("replicas")
    @classmethod
    def _replicas_are_alike(cls, replicas: int, info: ValidationInfo) -> int:
        shape = {name: info.data[name] for name in ("nodes", "ranks_per_node") if name in info.data}
        if len(shape) == 2:
            check_replicas(replicas, **shape)
        return replicas

    @field_validator("geometry")
    @classmethod
    def _geometry_holds(cls, rules: tuple[Rule, ...], info: ValidationInfo) -> tuple[Rule, ...]:
        shape = {name: info.data[name] for name in ("nodes", "ranks_per_node", "replicas", "args") if name in info.data}
        if len(shape) == 4:  # else one of them is refused, and says so itself
            check_rules(rules, **shape)
        return rules

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers_are_seconds_too(cls, value: Any) -> Any:
        """Strict mode refuses 600 where a float is due; YAML and JSON authors write 600."""
        return _floats(value) if isinstance(value, dict) else value

    @model_validator(mode="before")
    @classmethod
    def _a_script_brings_its_handler(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("script") is None:
            return value
        return {"handler": SCRIPT_HANDLER} | value

    @model_validator(mode="after")
    def _either_handler_or_script(self) -> Self:
        if self.script is not None and self.handler != SCRIPT_HANDLER:
            raise ValueError("a template has a handler or a script, not both")
        if self.script is not None and (free := sorted(self.args.keys() - set(self.script.gang_args))):
            raise ValueError(f"args.{free[0]} is no gang-level argument of the script: name it in script.gang_args")
        return self

    @field_validator("env")
    @classmethod
    def _env_is_free(cls, env: dict[str, str]) -> dict[str, str]:
        _check_env(env)
        return env

    @model_validator(mode="after")
    def _secret_env_is_free(self) -> Self:
        _check_env(self.pod.secret_env)
        if twice := sorted(self.env.keys() & self.pod.secret_env.keys()):
            raise ValueError(f"env.{twice[0]} is given by pod.secret_env as well")
        return self

    @property
    def world(self) -> int:
        """Ranks of one gang."""
        return self.nodes * self.ranks_per_node

    @property
    def ranks_per_replica(self) -> int:
        """Ranks that run one request together."""
        return self.world // self.replicas

    @property
    def setup_timeout_s(self) -> float:
        """Below the bound of the whole start, so that a setup that stands still is named before it is ended."""
        return self.limits.setup_timeout_s or 0.9 * self.limits.start_timeout_s

    @property
    def handler_args(self) -> dict[str, Any]:
        """What the handler finds as `ctx.args`."""
        if self.script is None:
            return self.args
        return {"script": self.script.model_dump(mode="json") | {"workdir": self.workdir}, "args": self.args}

    @property
    def spec(self) -> dict[str, Any]:
        """As JSON. What is not asked for is not said: a template of an older Muster keeps its digest."""
        spec = self.model_dump(mode="json")
        spec["pod"] = self.pod.model_dump(mode="json", exclude_defaults=True)
        spec["geometry"] = [rule.model_dump(mode="json", exclude_defaults=True) for rule in self.geometry]
        for name, unset in _UNSET.items():
            if spec[name] == unset:
                del spec[name]
        for name in ("setup_timeout_s", "output_ttl_s"):
            if spec["limits"][name] is None:
                del spec["limits"][name]
        if not self.batch.share_pool:
            del spec["batch"]["share_pool"]
        return spec

    @property
    def digest(self) -> bytes:
        """Equal content, equal digest."""
        return hashlib.sha256(json.dumps(self.spec, sort_keys=True).encode()).digest()


MOST_MISTAKES = 20


def read(document: Any) -> Template:
    """The template in a document of plain data. Raises Invalid with a pointer to each mistake."""
    try:
        return Template.model_validate(document)
    except ValidationError as error:
        listed = [_mistake(one["loc"], told(one, Template)) for one in error.errors()[:MOST_MISTAKES]]
        pointer, said = listed[0]["pointer"], listed[0]["message"]
        invalid = Invalid(f"{pointer or 'template'}: {said}", code="invalid_template", pointer=pointer)
        invalid.listed = listed if len(listed) > 1 else ()
        raise invalid from None


def _mistake(place: Sequence[int | str], said: str) -> dict[str, str]:
    pointer = "".join(f"/{part}" for part in place)
    return {"pointer": pointer, "code": "invalid_template", "message": said}


_UNSET: dict[str, Any] = {
    "replicas": 1,
    "script": None,
    "warmup": None,
    "preflight": Preflight().model_dump(mode="json"),
    "pod": {},
    "geometry": [],
}


def _floats(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _seconds(inner)
        if key in ("pool", "limits", "recycle", "preflight") and isinstance(inner, dict)
        else _seconds({key: inner})[key]
        for key, inner in value.items()
    }


def _seconds(section: dict[str, Any]) -> dict[str, Any]:
    return {
        key: float(number) if (key.endswith("_s") or key == "gpus_per_rank") and type(number) is int else number
        for key, number in section.items()
    }
