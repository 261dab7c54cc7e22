"""The protocol's answers as records: how the gang is configured and what it is asked to do. Parses, nothing else."""

import json
from dataclasses import dataclass
from typing import Any, Self

from inference.inputs import File


@dataclass(frozen=True, kw_only=True)
class Config:
    """What hello answers. The same on every rank of the incarnation."""

    incarnation: int
    token: str
    template: str
    handler: str
    args: dict[str, Any]
    workdir: str | None
    data_backend: str
    data_timeout_s: float
    beat_s: float
    lease_s: float
    poll_s: float
    log_flush_s: float
    setup_timeout_s: float
    preflight: dict[str, Any]
    warmup: dict[str, Any] | None

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Self:
        config = answer["config"]
        return cls(
            incarnation=answer["incarnation"],
            token=answer["token"],
            template=config["template"],
            handler=config["handler"],
            args=config.get("args") or {},
            workdir=config.get("workdir"),
            data_backend=config.get("data_backend", "auto"),
            data_timeout_s=float(config.get("data_timeout_s", 600.0)),
            beat_s=float(answer.get("beat_s", 5.0)),
            lease_s=float(answer.get("lease_s", 30.0)),
            poll_s=float(answer.get("poll_s", 20.0)),
            log_flush_s=float(answer.get("log_flush_s", 1.0)),
            setup_timeout_s=float(config.get("setup_timeout_s", 810.0)),
            preflight=config.get("preflight") or {},
            warmup=config.get("warmup"),
        )


@dataclass(frozen=True, kw_only=True)
class Work:
    """One lease. `token` is empty on ranks other than 0: they report nothing that needs it."""

    attempt: str
    request: str
    number: int
    token: str
    input: dict[str, Any]
    timeout_s: float | None
    no_progress_s: float | None
    cancel_grace_s: float
    output_prefix: str
    max_output_bytes: int | None = None
    files: tuple[tuple[str, File], ...] = ()
    """Inputs that name a file, and that file."""
    traceparent: str | None = None
    """Where in a trace the attempt is (W3C Trace Context)."""
    tracestate: str | None = None

    @property
    def checkpoint_prefix(self) -> str:
        """Of the request, not of the attempt."""
        return self.output_prefix.rstrip("/").rpartition("/")[0] + "/checkpoints"

    @classmethod
    def of(cls, lease: dict[str, Any]) -> Self:
        return cls(
            attempt=lease["attempt"],
            request=lease["request"],
            number=lease["number"],
            token=lease.get("token", ""),
            input=lease["input"],
            timeout_s=lease.get("timeout_s"),
            no_progress_s=lease.get("no_progress_s"),
            cancel_grace_s=float(lease.get("cancel_grace_s", 15.0)),
            output_prefix=lease.get("output_prefix", ""),
            max_output_bytes=lease.get("max_output_bytes"),
            files=tuple((name, File.of(file)) for name, file in sorted((lease.get("files") or {}).items())),
            traceparent=lease.get("traceparent"),
            tracestate=lease.get("tracestate"),
        )


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The answer to a poll or a finish: all live leases of the incarnation, and whether it is to end."""

    leases: tuple[dict[str, Any], ...]
    drain: bool

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Self:
        return cls(leases=tuple(answer.get("work") or ()), drain=answer.get("action") == "drain")

    @property
    def is_empty(self) -> bool:
        return not self.leases and not self.drain


def without_token(lease: dict[str, Any]) -> bytes:
    """What the other ranks get of a lease."""
    return encode({key: value for key, value in lease.items() if key != "token"})


def encode(value: Any) -> bytes:
    """Compact JSON. NaN and infinity are refused: no JSON reader but Python's takes them."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
