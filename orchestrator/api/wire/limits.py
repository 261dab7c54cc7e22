"""What one replica bears of its connections."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from orchestrator.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one connection and of all of a replica; times in seconds."""

    head_s: float
    """From the first byte (or the connect) to the end of the headers."""
    head_bytes: int
    """Request line and headers."""
    silence_s: float
    """Between two pieces of a body. A body's mean rate counts after so long."""
    bytes_per_s: int
    """The slowest mean rate of a body."""
    stall_s: float
    """How long a caller may read nothing of its answer."""
    connections: int
    idle: int
    """Connections without a call under way."""
    linger_s: float = 2.0
    """How long a caller that still sends has to read why it was refused."""
    linger_bytes: int = 1 << 20
    """What is taken of it meanwhile."""
    pipelined: int = 16
    """Calls of one connection that wait for the answer before theirs."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the operator set them."""

        def seconds(duration: timedelta) -> float:
            return duration.total_seconds()

        return cls(
            head_s=seconds(settings.head_timeout),
            head_bytes=settings.max_head_bytes,
            silence_s=seconds(settings.body_timeout),
            bytes_per_s=settings.min_upload_rate,
            stall_s=seconds(settings.stall_timeout),
            connections=settings.max_connections,
            idle=settings.max_idle_connections,
        )
