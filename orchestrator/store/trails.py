"""The phases of a run as its gang says them, kept with its attempt in the database's time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Trail:
    """`phases` with their begin, in seconds from that of the run; `elapsed_s` of it were over when this was said."""

    elapsed_s: float
    phases: Sequence[tuple[str, float]]


def kept(phases: str, elapsed_s: str) -> str:
    """What `attempt.trail` holds, or NULL, of two SQL expressions: jsonb and seconds."""
    return (
        f"CASE WHEN {phases} IS NOT NULL THEN jsonb_build_object("
        f"'began', extract(epoch FROM clock_timestamp()) - {elapsed_s}, 'phases', {phases}) END"
    )


GIVEN = kept("CAST(:phases AS jsonb)", "CAST(:elapsed_s AS float8)")


def given(trail: Trail | None) -> dict[str, Any]:
    """The parameters of GIVEN."""
    said = plain(trail)
    return {**said, "phases": None if said["phases"] is None else json.dumps(said["phases"])}


def plain(trail: Trail | None) -> dict[str, Any]:
    """The same as values of JSON."""
    if trail is None:
        return {"phases": None, "elapsed_s": None}
    return {"phases": list(trail.phases), "elapsed_s": trail.elapsed_s}
