"""Log chunks of several ranks as lines of text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from orchestrator.store.database import Record

MOST_CHUNKS = 20_000


def ranks(asked: str) -> list[int] | None:
    """`all` as None, `0,2` as numbers."""
    return None if asked == "all" else [int(part) for part in asked.split(",")]


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
