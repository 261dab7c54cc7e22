"""What an explanation is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Figure = int | float | str | bool | None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is true. `code` is stable, for programs; `figures` are what the sentence was made of."""

    code: str
    sentence: str
    figures: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that the reader can do; `command` if one line of the command line does it."""

    sentence: str
    command: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why it failed. `whose`: user, infra or operator. `rank` is the first that complained, not the loudest."""

    code: str
    whose: str
    message: str
    rank: int | None = None
    node: str | None = None
    phase: str | None = None
    step: int | None = None
    traceback: str | None = None
    log: str | None = None
    """The last lines that this rank wrote."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """`summary` is the answer in one sentence, the findings are the grounds for it, in the order of their weight."""

    of: str
    kind: str
    status: str
    summary: str
    findings: tuple[Finding, ...]
    next: tuple[Step, ...]
    cause: Cause | None = None


def finding(code: str, sentence: str, **figures: Figure) -> Finding:
    """With seconds to the millisecond: more is noise."""
    return Finding(
        code=code,
        sentence=sentence,
        figures={name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()},
    )


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 gang`, `2 gangs`."""
    return f"{count} {one if count == 1 else many or one + 's'}"
