"""The lines of a batch: where they end, and how long they may be. Knows nothing of what they say."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import Invalid

LINE_BYTES = 1 << 20
MANIFEST_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """A line that is not blank. Lines count from 1, blank ones too."""

    number: int
    raw: bytes


class Splitter:
    """Lines end at LF alone; a CR before it goes with it."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._number = 0
        self._bytes = 0

    def feed(self, part: bytes) -> list[Numbered]:
        """The lines that end in it. Raises Invalid `too_large`."""
        self._bytes += len(part)
        if self._bytes > MANIFEST_BYTES:
            raise Invalid(f"the lines are larger than {MANIFEST_BYTES} bytes together", code="too_large")
        first, *more = part.split(b"\n")
        self._rest += first
        if not more:
            self._check(len(self._rest))
            return []
        whole = [bytes(self._rest), *more[:-1]]
        self._rest = bytearray(more[-1])
        return [line for raw in whole if (line := self._line(raw))]

    def last(self) -> list[Numbered]:
        """What comes after the last LF."""
        raw, self._rest = bytes(self._rest), bytearray()
        return [line] if (line := self._line(raw)) else []

    def _line(self, raw: bytes) -> Numbered | None:
        self._number += 1
        self._check(len(raw))
        raw = raw.removesuffix(b"\r")
        return Numbered(number=self._number, raw=raw) if raw.strip(b" \t\r") else None

    def _check(self, size: int) -> None:
        if size > LINE_BYTES + 1:
            raise Invalid(f"line {self._number + 1} is longer than {LINE_BYTES} bytes", code="too_large")
