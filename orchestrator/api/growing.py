"""Logs that are followed: where a reader is in them, and what came since. Exact: nothing lost or doubled on resume."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from orchestrator.api import views
from orchestrator.api.office import Office
from orchestrator.api.parameters import moment
from orchestrator.errors import Invalid
from orchestrator.store import logs
from orchestrator.store.database import Record
from orchestrator.store.logs import Reach

CHUNKS = 16
"""In one look: a chunk is usually a second's lines, 64 KiB at most from our own ranks; each reader holds a page."""
GRACE_S = 2.0
"""After the end of a request: rank 0 sends its lines before it reports the end, the others a moment later."""
_PERIOD = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_CURSOR = re.compile(r"(?:s(\d{1,11}\.\d{3}))?((?:_\d{1,4}-\d{1,5}-\d{1,10})*)", re.ASCII)


Lives = Mapping[tuple[str, int], int]
Chunk = tuple[str, dict[str, Any]]
"""A reader's place after a chunk, and what the chunk says."""


def begins(since: str | None) -> float | None:
    """`5m`, `2h`, `1d`, or RFC 3339 with a zone, in seconds since the epoch. Raises Invalid."""
    if since is None:
        return None
    try:
        if period := _PERIOD.fullmatch(since):
            period_s = timedelta(**{_UNITS[period[2]]: int(period[1])}).total_seconds()
            return round(max(0.0, time.time() - period_s), 3)
    except OverflowError:
        return 0.0
    if found := moment(since):
        return round(max(0.0, found.timestamp()), 3)
    raise Invalid(
        f"since={since!r} is no moment: write 5m, 2h, 1d or 2026-01-31T12:00:00Z, with + as %2B", pointer="/since"
    )


@dataclass
class Following:
    """One reader of a request's logs."""

    request_id: str
    ranks: list[int] | None
    since: float | None
    known: dict[tuple[int, int], int]
    behind: bool = False
    """There is more to read at once."""

    @property
    def cursor(self) -> str:
        """Where the reader is, as a name: since when, and the last number of each rank of each recent attempt."""
        newest = max((number for number, _ in self.known), default=0) - logs.FORGOTTEN_LIVES
        recent = ((key, seq) for key, seq in sorted(self.known.items()) if key[0] > newest)
        start = f"s{self.since:.3f}" if self.since is not None else ""
        return start + "".join(f"_{number}-{rank}-{seq}" for (number, rank), seq in recent)

    def resume(self, cursor: str) -> None:
        """From where the reader was; what it asked `since` then holds on. Raises Invalid `bad_event_id`."""
        match = _CURSOR.fullmatch(cursor)
        if match is None:
            raise Invalid("this Last-Event-ID was not given here: start without one", code="bad_event_id")
        self.since = float(match[1]) if match[1] else None
        for part in match[2].split("_")[1:]:
            number, rank, seq = part.split("-")
            self.known[int(number), int(rank)] = min(int(seq), 2**31 - 1)

    def begin(
        self, shown: Sequence[tuple[Record, str]], lives: Lives, ends: Mapping[tuple[int, int], int]
    ) -> Iterator[Chunk]:
        """What the reader gets of chunks that were there before. `ends` was read before they were.

        Of ranks that are not among them, it gets only what they write from now on.
        """
        self.known = dict(ends)
        for chunk, _ in reversed(shown):
            if number := lives.get((chunk.gang_id, chunk.incarnation)):
                self.known[number, chunk.rank] = chunk.seq - 1
        for chunk, text in shown:
            number = lives.get((chunk.gang_id, chunk.incarnation))
            if number is not None:
                self._pass(number, chunk.rank, chunk.seq)
            yield self.cursor, _said(chunk, number, text)

    async def more(self, here: Office) -> list[Chunk]:
        """The next page of what came since, each chunk with the reader's place after it; see `behind`.

        A page and not all: a reader takes its backlog at its own pace. Many who are at one place share a look.
        """
        reach = Reach(ranks=self.ranks, since=self.since, known=dict(self.known))
        key = ("logs", self.request_id, str(self.ranks), str(self.since), self.cursor)
        chunks = await here.sharing(key, lambda: here.look(lambda tx: logs.beyond(tx, self.request_id, reach, CHUNKS)))
        self.behind = len(chunks) == CHUNKS
        return [self._taken(chunk) for chunk in chunks]

    def _taken(self, chunk: Record) -> Chunk:
        self._pass(chunk.number, chunk.rank, chunk.seq)
        return self.cursor, _said(chunk, chunk.number, chunk.body)

    def _pass(self, number: int, rank: int, seq: int) -> None:
        self.known[number, rank] = max(seq, self.known.get((number, rank), 0))

    @staticmethod
    def complete(ended_s: float) -> bool:
        """Whether nothing more comes of a request that ended so long ago."""
        return ended_s >= GRACE_S


def _said(chunk: Record, attempt: int | None, text: str) -> dict[str, Any]:
    return {"rank": chunk.rank, "attempt": attempt, "at": views.when(chunk.at), "text": text}
