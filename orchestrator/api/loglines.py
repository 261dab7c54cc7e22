"""Log chunks of several ranks as lines of text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from orchestrator.store.database import Record

MOST_CHUNKS = 20_000
MOST_FOLLOWED = 64


def ranks(asked: str) -> list[int] | None:
    """`all` as None, `0,2` as numbers."""
    return None if asked == "all" else [int(part) for part in asked.split(",")]


def followed(asked: str) -> list[int]:
    """Of a stream, whose reader's place names every rank: `all` are the first 64."""
    return ranks(asked) or [*range(MOST_FOLLOWED)]


def needed(tail: int) -> int:
    """How many of the newest chunks hold the last `tail` lines for sure: a chunk is a line at least."""
    return min(tail, MOST_CHUNKS)


def newest(chunks: Sequence[Record], tail: int) -> list[tuple[Record, str]]:
    """The chunks with the last `tail` lines, the first of them cut to fit."""
    found: list[tuple[Record, str]] = []
    for chunk in reversed(chunks):
        lines = chunk.body.splitlines(keepends=True)[-tail:]
        found.append((chunk, "".join(lines)))
        tail -= len(lines)
        if tail <= 0:
            break
    return found[::-1]


def lines(rank: int, text: str, *, prefixed: bool) -> str:
    """The lines of one chunk, each with its rank if there are several."""
    whole = text if text.endswith("\n") else f"{text}\n"
    return "".join(f"[r{rank}] {line}\n" for line in whole[:-1].split("\n")) if prefixed else whole


def joined(chunks: Sequence[Record], tail: int, *, prefixed: bool) -> str:
    """The last `tail` lines; with several ranks each line starts with the rank that wrote it."""
    lines = deque(_lines(chunks, prefixed), maxlen=tail)
    return "".join(f"{line}\n" for line in lines)


def _lines(chunks: Sequence[Record], prefixed: bool) -> Iterator[str]:
    """Whole lines: a chunk may end in the middle of one."""
    open_lines: dict[int, str] = {}
    for chunk in chunks:
        *whole, rest = (open_lines.pop(chunk.rank, "") + chunk.body).split("\n")
        prefix = f"[r{chunk.rank}] " if prefixed else ""
        yield from (prefix + line for line in whole)
        if rest:
            open_lines[chunk.rank] = rest
    yield from (f"[r{rank}] {rest}" if prefixed else rest for rank, rest in open_lines.items())
